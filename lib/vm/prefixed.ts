import { Writable } from 'node:stream';

/** A line that is longer is cut there: who writes none ever would fill the memory. */
const LONGEST_LINE = 1024 * 1024;

const LINE_END = 0x0a;

/**
 * A stream that passes whole lines on to another one, each behind a prefix, so that several can write there and no line has
 * parts of two. Its end completes a line that has not been ended.
 */
export function prefixedLines(to: Writable, prefix: string): Writable {
  const mark = Buffer.from(prefix);
  const lineEnd = Buffer.from([LINE_END]);
  let begun: Buffer[] = [];
  let length = 0;
  const takeLine = (rest: Buffer): Buffer[] => {
    const line = [mark, ...begun, rest];
    begun = [];
    length = 0;
    return line;
  };
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      const lines: Buffer[] = [];
      let start = 0;
      while (start < chunk.length) {
        const most = start + LONGEST_LINE - length;
        const end = chunk.subarray(0, most).indexOf(LINE_END, start);
        if (end >= 0) lines.push(...takeLine(chunk.subarray(start, end + 1)));
        else if (chunk.length >= most) lines.push(...takeLine(chunk.subarray(start, most)), lineEnd);
        else {
          const rest = Buffer.from(chunk.subarray(start));
          begun.push(rest);
          length += rest.length;
        }
        start = end >= 0 ? end + 1 : Math.min(most, chunk.length);
      }
      if (lines.length === 0) done();
      else to.write(Buffer.concat(lines), done);
    },
    final(done) {
      if (length === 0) done();
      else to.write(Buffer.concat(takeLine(lineEnd)), done);
    },
  });
}
