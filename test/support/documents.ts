// The documents' code blocks, and where each is checked.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from './programs.js';

/** Every document that users and contributors read, relative to the package's folder. */
export const documents: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...readdirSync(join(packageRoot, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** Documents whose JavaScript boots a guest itself and cannot run in one: it is compiled instead. */
export const notInGuest: ReadonlySet<string> = new Set(['docs/vm.md']);

/** Documents whose JavaScript and commands are other tools', which scripts/prove-bundlers.mjs runs: a look at their syntax is had. */
export const runByTools: ReadonlySet<string> = new Set(['docs/bundlers.md']);

/** A fenced code block. */
export interface Block {
  document: string;
  /** Of its first line of code. */
  line: number;
  language: string;
  code: string;
}

export function textOf(document: string): string {
  return readFileSync(join(packageRoot, document), 'utf8');
}

/** The fenced blocks of a text. A fence may be indented, as in a list; its code is then indented as far. */
export function blocksIn(text: string, document: string): Block[] {
  const blocks: Block[] = [];
  let open: { indent: string; language: string; line: number; code: string[] } | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^( *)```(.*)$/.exec(line);
    if (open === undefined) {
      if (fence) open = { indent: fence[1] ?? '', language: fence[2] ?? '', line: index + 2, code: [] };
    } else if (fence && fence[2] === '') {
      const code = open.code.map((row) => `${row.slice(open?.indent.length)}\n`).join('');
      blocks.push({ document, line: open.line, language: open.language, code });
      open = undefined;
    } else open.code.push(line);
  }
  if (open !== undefined) throw new Error(`${document}:${open.line}: the block is not closed`);
  return blocks;
}

/** Every fenced block of every document. */
export function allBlocks(): Block[] {
  return documents.flatMap((document) => blocksIn(textOf(document), document));
}

/** A document's text without its fenced blocks. */
export function prose(document: string): string {
  return textOf(document).replace(/^ *```.*?^ *```$/gms, '');
}

/** A link of a document to a file of the package. */
export interface Link {
  /** As it is written. */
  readonly target: string;
  /** Relative to the package's folder. */
  readonly path: string;
  readonly anchor: string | undefined;
}

/** The links of a document's text but those to other sites. */
export function linksOf(document: string): Link[] {
  const targets = [...prose(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target as string);
  return targets
    .filter((target) => !/^https?:/.test(target))
    .map((target) => {
      const [path = '', anchor] = target.split('#');
      return { target, path: path === '' ? document : join(dirname(document), path), anchor };
    });
}

/** The packages that a document has its reader install with npm, besides this one. */
export function packagesToInstall(document: string): string[] {
  return blocksIn(textOf(document), document)
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => [...code.matchAll(/^npm install ([^\n&]+)$/gm)])
    .flatMap(([, names = '']) => names.split(' '))
    .filter((name) => !name.startsWith('-') && name !== 'dmabuf');
}

/** The lines that the code says it prints: the comment behind a `console.log()`, up to a colon. */
export function outputIn(code: string): string[] {
  return [...code.matchAll(/^ *console\.log\(.*\); \/\/ ([^:\n]+)/gm)].map(([, text]) =>
    (text as string).trim(),
  );
}
