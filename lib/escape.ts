/**
 * Controls (C0, DEL, C1), what changes the direction of text, what cannot be seen or looks like a space, and what ends a line
 * elsewhere. Fonts leave the characters blank that Unicode lets them ignore, and the empty pattern of Braille.
 */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu;

const short: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) as number;
  if (code <= 0xff) return short[character] ?? `\\x${code.toString(16).padStart(2, '0')}`;
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`;
}

/** A message of which no part can drive the terminal. */
export function escapeControls(text: string): string {
  // The expression below takes as long to compile as a small command takes for all else.
  if (/^[ -~]*$/.test(text)) return text;
  return text.replace(unprintable, escapeCharacter);
}

/** The same of a text of several lines. */
export function escapeLines(text: string): string {
  return text.replace(/[^\n\t]+/g, escapeControls);
}

/** A name that anybody may have chosen, so that it cannot drive the terminal, and what was escaped can be told. */
export function escapeName(text: string): string {
  return escapeControls(text.replaceAll('\\', '\\\\'));
}
