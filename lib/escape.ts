/**
 * Control characters (C0, DEL, C1), characters that change the direction of text, invisible ones, those that look like a space,
 * and other line ends. Fonts show nothing for the characters that Unicode lets them ignore, and for the empty pattern of Braille.
 */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu;

const short: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) as number;
  if (code <= 0xff) return short[character] ?? `\\x${code.toString(16).padStart(2, '0')}`;
  return code <= 0xffff ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`;
}

/** A message without anything that a terminal would interpret. */
export function escapeControls(text: string): string {
  // To compile the expression below takes as long as all the rest of a small command.
  if (/^[ -~]*$/.test(text)) return text;
  return text.replace(unprintable, escapeCharacter);
}

/** The same for a text of several lines. */
export function escapeLines(text: string): string {
  return text.replace(/[^\n\t]+/g, escapeControls);
}

/** An untrusted name, escaped so that a terminal interprets nothing of it, and the original can be derived from it. */
export function escapeName(text: string): string {
  return escapeControls(text.replaceAll('\\', '\\\\'));
}
