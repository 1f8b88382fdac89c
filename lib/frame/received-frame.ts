import { illegalConstructor } from '../check.js';
import type { SyncFile } from '../fence/sync-file.js';
import { apply, register, unregister } from '../intrinsics.js';
import { brand } from '../open-file.js';
import { markUncloneable, showDetails } from '../present.js';
import type { KeptBuffer } from './kept-buffers.js';
import type { FrameLayout, FramePlane } from './planes.js';

/** What has to be given back. */
export interface Holding {
  readonly sequence: number;
  readonly kept: readonly KeptBuffer[];
  readonly ready: SyncFile | undefined;
  readonly giveBack: (holding: Holding) => void;
  isHeld: boolean;
}

/** What a message told of a frame. */
export interface FrameDetails extends FrameLayout {
  sequence: number;
  missed: number;
  metadata: unknown;
}

/** Known to this module alone, so that nobody else constructs. */
const construct = Symbol('ReceivedFrame');
let createReceivedFrame: (details: FrameDetails, holding: Holding) => ReceivedFrame;

/**
 * A frame that a {@link FrameReceiver} has received: a layout, in buffers that the receiver keeps. Do not close these.
 * The sender uses them again after `release()`.
 */
export class ReceivedFrame implements FrameLayout, Disposable {
  static {
    showDetails(ReceivedFrame.prototype, 'ReceivedFrame');
    createReceivedFrame = (details, holding) => new ReceivedFrame(details, holding, construct);
  }

  /** The four-character code of the pixel format, as DRM writes it. */
  readonly fourcc: string;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** How the pixels are arranged: 0n is linear. */
  readonly modifier: bigint;
  /** Where the planes are, and in which buffers. */
  readonly planes: FramePlane[];
  /** The sender's number of the frame: one more with each. */
  readonly sequence: number;
  /** How many frames this receiver did not get since the last one, because it was slow. */
  readonly missed: number;
  /** What the sender has told of the frame, `undefined` for nothing. It comes from another process: check it. */
  readonly metadata: unknown;
  /** Signals when the frame may be read, where the sender gave a sync_file; closed by `release()`. */
  readonly ready: SyncFile | undefined;
  readonly #holding: Holding;

  private constructor(details: FrameDetails, holding: Holding, token: symbol) {
    if (token !== construct) throw illegalConstructor('ReceivedFrame', 'FrameReceiver.receive()');
    this.fourcc = details.fourcc;
    this.width = details.width;
    this.height = details.height;
    this.modifier = details.modifier;
    this.planes = details.planes;
    this.sequence = details.sequence;
    this.missed = details.missed;
    this.metadata = details.metadata;
    this.ready = holding.ready;
    this.#holding = holding;
    markUncloneable?.(this);
  }

  static readonly #of = brand('ReceivedFrame', (self) => (#holding in self ? self.#holding : undefined));

  /** Whether `release()` was called. */
  get released(): boolean {
    return !ReceivedFrame.#of(this).isHeld;
  }

  /**
   * Returns the frame: the sender may write its buffers again. Devices of this process that still read them must have
   * their fences on the buffers. Does nothing the second time.
   */
  release(): void {
    const holding = ReceivedFrame.#of(this);
    if (!holding.isHeld) return;
    unregister(lost as never, this);
    holding.giveBack(holding);
  }

  /** What was received, for logs and as JSON. */
  toJSON(): object {
    const { isHeld, sequence } = ReceivedFrame.#of(this);
    const { fourcc, width, height, missed } = this;
    return { type: 'ReceivedFrame', sequence, fourcc, width, height, missed, released: !isHeld };
  }

  /** The same as `release()`. */
  [Symbol.dispose](): void {
    apply(ReceivedFrame.prototype.release, this, []);
  }
}

/** Frames that were collected without `release()`: they are returned all the same. */
const lost = new FinalizationRegistry<Holding>((holding) => {
  if (holding.isHeld) holding.giveBack(holding);
});

/** Hands a frame out. */
export function handOut(details: FrameDetails, holding: Holding): ReceivedFrame {
  const frame = createReceivedFrame(details, holding);
  register(lost, frame, holding, frame);
  return frame;
}
