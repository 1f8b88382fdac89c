import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseBufferInfo } from '../../lib/inspect/sources/debugfs.js';

/** How a kernel prints bufinfo (drivers/dma-buf/dma-buf.c). */
interface Era {
  kernel: string;
  headings: string;
  /** What stands for an unset name. */
  unset: string;
  fence: (driver: string, timeline: string, isSignalled: boolean) => string;
}

const headings = 'size    \tflags   \tmode    \tcount   \texp_name\tino     ';
const signalled = (is: boolean): string => (is ? 'signalled' : 'unsignalled');

const eras: readonly Era[] = [
  {
    kernel: '5.3',
    headings,
    unset: '',
    fence: (driver, timeline, is) => `\tExclusive fence: ${driver} ${timeline} ${signalled(is)}`,
  },
  {
    kernel: '5.10',
    headings: `${headings}`,
    unset: '',
    fence: (driver, timeline, is) => `\tShared fence: ${driver} ${timeline} ${signalled(is)}`,
  },
  {
    kernel: '5.18',
    headings,
    unset: '<none>',
    fence: (driver, timeline, is) => `\tExclusive fence:${driver} ${timeline} seq 7 ${signalled(is)}`,
  },
  {
    kernel: '6.12',
    headings: `${headings}\tname`,
    unset: '<none>',
    fence: (driver, timeline, is) => `\tread fence:${driver} ${timeline} seq 1 ${signalled(is)}`,
  },
  {
    kernel: '7.2',
    headings: `${headings}\tname`,
    unset: '<none>',
    fence: (driver, timeline, is) => `\tbookkeep fence:2:1 ${timeline} ${driver} ${signalled(is)}`,
  },
];

const word = fc.constantFrom('etnaviv', '134000.gpu', 'vgem', 'unbound', 'gpu ring', 'amdgpu');
const fence = fc.tuple(word, word, fc.boolean());

/** Any bytes but NUL, and such as look like the kernel's own lines. */
const nameBytes = fc.oneof(
  fc.uint8Array({ min: 1, max: 255, maxLength: 31 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
  fc
    .array(
      fc.constantFrom(
        '\n',
        '\t',
        '<none>',
        '00000001\t',
        '\tread fence:',
        ' signalled',
        '\n\tAttached Devices:\n',
        'Total 0',
        'x',
      ),
      { maxLength: 6 },
    )
    .map((parts) => parts.join('').slice(0, 31)),
);

const printed = fc.record({
  size: fc.integer({ min: 0, max: 2 ** 48 }),
  references: fc.nat(),
  exporter: fc.constantFrom('system', 'drm', 'udmabuf', 'vb2_vmalloc', 'linux,cma'),
  name: fc.option(nameBytes, { nil: undefined }),
  fences: fc.array(fence, { maxLength: 3 }),
  devices: fc.array(fc.constantFrom('gpu', '0000:00:02.0', 'vgem'), { maxLength: 2 }),
});
type Printed = typeof printed extends fc.Arbitrary<infer T> ? T : never;

const digits = (number: number): string => String(number).padStart(8, '0');

function print(buffers: readonly Printed[], era: Era): string {
  const objects = buffers.map(({ size, references, exporter, name, fences, devices }, index) => {
    const row = [digits(size), '00000002', '00080007', digits(references), exporter, digits(index + 1)];
    return [
      `${row.join('\t')}\t${name ?? era.unset}`,
      ...fences.map((one) => era.fence(...one)),
      '\tAttached Devices:',
      ...devices.map((device) => `\t${device}`),
      `Total ${devices.length} devices attached\n\n`,
    ].join('\n');
  });
  const size = buffers.reduce((sum, buffer) => sum + buffer.size, 0);
  return `\nDma-buf Objects:\n${era.headings}\n${objects.join('')}\nTotal ${buffers.length} objects, ${size} bytes\n`;
}

describe("debugfs' list of buffers", () => {
  for (const era of eras) {
    it(`is read as Linux ${era.kernel} prints it, whatever the names`, () => {
      fc.assert(
        fc.property(fc.array(printed, { maxLength: 6 }), (buffers) => {
          const found = parseBufferInfo(print(buffers, era));
          assert.equal(found.length, buffers.length);
          for (const [index, buffer] of buffers.entries()) {
            const { name, ...rest } = found[index] ?? {};
            assert.deepEqual(rest, {
              inode: index + 1,
              size: buffer.size,
              exporter: buffer.exporter,
              references: buffer.references,
              devices: buffer.devices,
              holders: [],
            });
            // A name that could be read in two ways, or that stands for none, is absent: never another.
            if (name !== undefined) assert.equal(name, Buffer.from(buffer.name ?? '?', 'latin1').toString());
          }
        }),
      );
    });

    it(`tells the names of Linux ${era.kernel}, beside fences too`, () => {
      fc.assert(
        fc.property(
          fc.array(printed, { minLength: 1 }),
          fc.stringMatching(/^[a-z -]{1,31}$/),
          (buffers, name) => {
            const named = buffers.map((buffer) => ({ ...buffer, name }));
            for (const found of parseBufferInfo(print(named, era))) assert.equal(found.name, name);
          },
        ),
      );
    });

    it(`has no name where Linux ${era.kernel} prints an unset one`, () => {
      fc.assert(
        fc.property(fc.array(printed, { minLength: 1 }), (buffers) => {
          const unnamed = buffers.map((buffer) => ({ ...buffer, name: undefined }));
          for (const found of parseBufferInfo(print(unnamed, era))) assert.equal('name' in found, false);
        }),
      );
    });
  }

  for (const figure of ['size', 'references', 'inode'] as const) {
    it(`is refused with a figure that no number tells from its neighbours: ${figure}`, () => {
      const text = (digits: string): string => {
        const of = (what: string): string => (what === figure ? digits : '00000001');
        const row = [of('size'), '00000002', '00080007', of('references'), 'system', of('inode'), 'name'];
        return `\nDma-buf Objects:\n${headings}\tname\n${row.join('\t')}\n\tAttached Devices:\n\nTotal 1 objects, 1 bytes\n`;
      };
      assert.equal(parseBufferInfo(text('9007199254740991'))[0]?.[figure], Number.MAX_SAFE_INTEGER);
      for (const digits of [
        '9007199254740992',
        '9007199254740993',
        '18446744073709551616',
        '9'.repeat(400),
      ]) {
        assert.throws(() => parseBufferInfo(text(digits)), { code: 'EOVERFLOW' });
      }
    });
  }
});
