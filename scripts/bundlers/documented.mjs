// The recipes of a document: what stands in its sections, so that what is proven is what is read.

import { readFileSync } from 'node:fs';

/** The sections of a Markdown text, by their titles: files, whose first line is a comment with the name, and commands. */
export function recipesOf(path) {
  const recipes = new Map();
  for (const section of readFileSync(path, 'utf8')
    .split(/^#{2,3} /m)
    .slice(1)) {
    const recipe = { files: {}, commands: [] };
    for (const [, language, code] of section.matchAll(/^```(\w+)\n(.*?)^```$/gms)) {
      const name = /^(?:\/\/|#) (\S+\.\w+)\n/.exec(code)?.[1];
      if (name !== undefined) recipe.files[name] = code;
      else if (language === 'sh') recipe.commands.push(code);
    }
    recipes.set(section.slice(0, section.indexOf('\n')), recipe);
  }
  return recipes;
}
