import { outOfRange } from '../check.js';

/** A part of a picture that is stored by itself: what one group of pixels takes in it. */
export interface PlaneShape {
  /** Pixels of a line that share a group. */
  columns: number;
  /** Lines of the picture that share a line of the plane. */
  rows: number;
  /** Bytes of a group. */
  bytes: number;
}

/** Where one colour component of a pixel is. */
export interface Component {
  plane: number;
  /** Pixels of a line, and lines, that share this component's value. */
  columns: number;
  rows: number;
  /** Lines of the plane for so many `rows`, and which of them it is: a Bayer pattern has two. */
  lines: number;
  line: number;
  /** Bytes from one value to the next, and to the first. */
  step: number;
  offset: number;
  /** The little-endian word that holds the value, in bytes: 1, 2 or 4; how far it is to be shifted; and how many bits it has. */
  word: number;
  shift: number;
  bits: number;
}

/** A linear pixel format: without tiles or compression. */
export interface Format {
  fourcc: string;
  /** What the components are: red, green, blue and maybe alpha; luma, two chroma and maybe alpha; or luma alone. */
  model: 'rgb' | 'yuv' | 'grey';
  planes: readonly PlaneShape[];
  components: readonly Component[];
  /** Of what the width and the height must be multiples. */
  multiple: number;
}

type Field = readonly [shift: number, bits: number];

function component(plane: number, step: number, offset: number, rest: Partial<Component> = {}): Component {
  return {
    plane,
    columns: 1,
    rows: 1,
    lines: 1,
    line: 0,
    step,
    offset,
    word: 1,
    shift: 0,
    bits: 8,
    ...rest,
  };
}

/** The parts of a word of so many bytes, each by its lowest bit and its number of bits. */
function packed(fourcc: string, bytes: number, model: 'rgb' | 'yuv', ...fields: Field[]): Format {
  const components = fields.map(([shift, bits]) => {
    // A whole byte or a whole 16 bits are read alone; others, of the whole word.
    if (bits % 8 === 0 && shift % bits === 0) {
      return component(0, bytes, shift / 8, { word: bits / 8, bits });
    }
    return component(0, bytes, 0, { word: bytes, shift, bits });
  });
  return {
    fourcc,
    model,
    planes: [{ columns: 1, rows: 1, bytes }],
    components,
    multiple: 1,
  };
}

function rgb(fourcc: string, bytes: number, ...fields: Field[]): Format {
  return packed(fourcc, bytes, 'rgb', ...fields);
}

/** Two pixels in four bytes: where the first luma and the two chroma are. */
function paired(fourcc: string, y: number, u: number, v: number): Format {
  const chroma = { columns: 2 };
  return {
    fourcc,
    model: 'yuv',
    planes: [{ columns: 2, rows: 1, bytes: 4 }],
    components: [component(0, 2, y), component(0, 4, u, chroma), component(0, 4, v, chroma)],
    multiple: 1,
  };
}

interface Sharing {
  columns: number;
  rows: number;
}

/** Luma, then both chroma in turns, the first of them Cb or Cr. */
function semiPlanar(fourcc: string, sharing: Sharing, first: 'u' | 'v', bits = 8): Format {
  const word = bits > 8 ? 2 : 1;
  const sample = { word, bits, shift: 8 * word - bits };
  const u = component(1, 2 * word, first === 'u' ? 0 : word, { ...sample, ...sharing });
  const v = component(1, 2 * word, first === 'u' ? word : 0, { ...sample, ...sharing });
  return {
    fourcc,
    model: 'yuv',
    planes: [
      { columns: 1, rows: 1, bytes: word },
      { ...sharing, bytes: 2 * word },
    ],
    components: [component(0, word, 0, sample), u, v],
    multiple: 1,
  };
}

/** Luma and both chroma, each by itself, the first chroma Cb or Cr. */
function planar(fourcc: string, sharing: Sharing, first: 'u' | 'v'): Format {
  const [u, v] = first === 'u' ? [1, 2] : [2, 1];
  const chroma = { ...sharing, bytes: 1 };
  return {
    fourcc,
    model: 'yuv',
    planes: [{ columns: 1, rows: 1, bytes: 1 }, chroma, chroma],
    components: [component(0, 1, 0), component(u, 1, 0, sharing), component(v, 1, 0, sharing)],
    multiple: 1,
  };
}

/** One value a pixel, in the low bits of its word. */
function grey(fourcc: string, bits: number): Format {
  const word = bits > 8 ? 2 : 1;
  return {
    fourcc,
    model: 'grey',
    planes: [{ columns: 1, rows: 1, bytes: word }],
    components: [component(0, word, 0, { word, bits })],
    multiple: 1,
  };
}

/** A sensor's picture: one colour a pixel; the four of a square, first line first. */
function bayer(fourcc: string, square: 'rggb' | 'grbg' | 'gbrg' | 'bggr', bits: number): Format {
  const word = bits > 8 ? 2 : 1;
  const at = (place: number): Component =>
    component(0, 2 * word, word * (place % 2), {
      columns: 2,
      rows: 2,
      lines: 2,
      line: place >> 1,
      word,
      bits,
    });
  return {
    fourcc,
    model: 'rgb',
    planes: [{ columns: 1, rows: 1, bytes: word }],
    components: [at(square.indexOf('r')), at(square.indexOf('g')), at(square.indexOf('b'))],
    multiple: 2,
  };
}

const quarter: Sharing = { columns: 2, rows: 2 };
const half: Sharing = { columns: 2, rows: 1 };
const whole: Sharing = { columns: 1, rows: 1 };

/** Named as drm_fourcc.h has them; raw Bayer and greys, which it does not have, as videodev2.h. */
const formats: ReadonlyMap<string, Format> = new Map(
  [
    rgb('XR24', 4, [16, 8], [8, 8], [0, 8]),
    rgb('AR24', 4, [16, 8], [8, 8], [0, 8], [24, 8]),
    rgb('XB24', 4, [0, 8], [8, 8], [16, 8]),
    rgb('AB24', 4, [0, 8], [8, 8], [16, 8], [24, 8]),
    rgb('RX24', 4, [24, 8], [16, 8], [8, 8]),
    rgb('RA24', 4, [24, 8], [16, 8], [8, 8], [0, 8]),
    rgb('BX24', 4, [8, 8], [16, 8], [24, 8]),
    rgb('BA24', 4, [8, 8], [16, 8], [24, 8], [0, 8]),
    rgb('RG24', 3, [16, 8], [8, 8], [0, 8]),
    rgb('BG24', 3, [0, 8], [8, 8], [16, 8]),
    rgb('RG16', 2, [11, 5], [5, 6], [0, 5]),
    rgb('BG16', 2, [0, 5], [5, 6], [11, 5]),
    rgb('XR15', 2, [10, 5], [5, 5], [0, 5]),
    rgb('AR15', 2, [10, 5], [5, 5], [0, 5], [15, 1]),
    rgb('XR12', 2, [8, 4], [4, 4], [0, 4]),
    rgb('AR12', 2, [8, 4], [4, 4], [0, 4], [12, 4]),
    rgb('XR30', 4, [20, 10], [10, 10], [0, 10]),
    rgb('AR30', 4, [20, 10], [10, 10], [0, 10], [30, 2]),
    rgb('XB30', 4, [0, 10], [10, 10], [20, 10]),
    rgb('AB30', 4, [0, 10], [10, 10], [20, 10], [30, 2]),
    rgb('XR48', 8, [32, 16], [16, 16], [0, 16]),
    rgb('AR48', 8, [32, 16], [16, 16], [0, 16], [48, 16]),
    rgb('XB48', 8, [0, 16], [16, 16], [32, 16]),
    rgb('AB48', 8, [0, 16], [16, 16], [32, 16], [48, 16]),
    packed('XYUV', 4, 'yuv', [16, 8], [8, 8], [0, 8]),
    packed('AYUV', 4, 'yuv', [16, 8], [8, 8], [0, 8], [24, 8]),
    paired('YUYV', 0, 1, 3),
    paired('YVYU', 0, 3, 1),
    paired('UYVY', 1, 0, 2),
    paired('VYUY', 1, 2, 0),
    semiPlanar('NV12', quarter, 'u'),
    semiPlanar('NV21', quarter, 'v'),
    semiPlanar('NV16', half, 'u'),
    semiPlanar('NV61', half, 'v'),
    semiPlanar('NV24', whole, 'u'),
    semiPlanar('NV42', whole, 'v'),
    semiPlanar('P010', quarter, 'u', 10),
    semiPlanar('P012', quarter, 'u', 12),
    semiPlanar('P016', quarter, 'u', 16),
    semiPlanar('P210', half, 'u', 10),
    planar('YU12', quarter, 'u'),
    planar('YV12', quarter, 'v'),
    planar('YU16', half, 'u'),
    planar('YV16', half, 'v'),
    planar('YU24', whole, 'u'),
    planar('YV24', whole, 'v'),
    grey('R8  ', 8),
    grey('R10 ', 10),
    grey('R12 ', 12),
    grey('R16 ', 16),
    grey('GREY', 8),
    grey('Y10 ', 10),
    grey('Y12 ', 12),
    grey('Y16 ', 16),
    bayer('RGGB', 'rggb', 8),
    bayer('GRBG', 'grbg', 8),
    bayer('GBRG', 'gbrg', 8),
    bayer('BA81', 'bggr', 8),
    bayer('RG10', 'rggb', 10),
    bayer('BA10', 'grbg', 10),
    bayer('GB10', 'gbrg', 10),
    bayer('BG10', 'bggr', 10),
    bayer('RG12', 'rggb', 12),
    bayer('BA12', 'grbg', 12),
    bayer('GB12', 'gbrg', 12),
    bayer('BG12', 'bggr', 12),
    bayer('GR16', 'grbg', 16),
    bayer('GB16', 'gbrg', 16),
    bayer('BYR2', 'bggr', 16),
  ].map((format) => [format.fourcc, format]),
);

/** What GStreamer and others call DRM's YU12. */
const otherNames: Readonly<Record<string, string>> = { I420: 'YU12', IYUV: 'YU12' };

/** The four-character codes of the formats that this package knows, as DRM writes them. */
export const knownFormats: readonly string[] = [...formats.keys()];

/** A format by its code; a code of fewer letters is filled up with spaces. */
export function formatOf(fourcc: unknown): Format {
  const format =
    typeof fourcc === 'string' ? formats.get(otherNames[fourcc] ?? fourcc.padEnd(4, ' ')) : undefined;
  if (format !== undefined) return format;
  throw outOfRange('fourcc', `a linear format of ${knownFormats.join(', ')}`, fourcc);
}
