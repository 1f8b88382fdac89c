// What a document's shell lines run: a reader of as much shell as the documents use.

/** The simple commands of a script, as words: without comments, variables before a command, and redirections. */
export function commandsOf(script: string): string[][] {
  const commands: string[][] = [];
  let words: string[] = [];
  let word: string | undefined;
  let quote: string | undefined;
  let target = false; // whether the next word is a redirection's
  const endWord = (): void => {
    if (word !== undefined && !target && !(words.length === 0 && /^\w+=/.test(word))) words.push(word);
    if (word !== undefined) target = false;
    word = undefined;
  };
  const endCommand = (): void => {
    endWord();
    if (words.length > 0) commands.push(words);
    words = [];
  };
  for (let at = 0; at < script.length; at++) {
    const character = script[at] as string;
    if (quote !== undefined) {
      if (character === quote) quote = undefined;
      else word = (word ?? '') + character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= '';
    } else if (character === '#' && word === undefined) {
      while (at + 1 < script.length && script[at + 1] !== '\n') at++;
    } else if (character === '>' || character === '<') {
      // A descriptor's number belongs to the redirection.
      if (word !== undefined && /^\d$/.test(word)) word = undefined;
      endWord();
      while (/[>&]/.test(script[at + 1] ?? '')) at++;
      target = true;
    } else if (/[\n;|&]/.test(character)) endCommand();
    else if (character === ' ') endWord();
    else word = (word ?? '') + character;
  }
  endCommand();
  return commands;
}
