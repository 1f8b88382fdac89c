// One name on every floor: what `lib/native.ts` calls a function, its table in native/js calls it, too, and so is the C++
// function named; with as many arguments.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

/** How many arguments each function of the addon takes, by the interface `Native`. */
function declared(interfaceText) {
  const file = ts.createSourceFile('native.ts', interfaceText, ts.ScriptTarget.Latest);
  const native = file.statements.find(
    (statement) => ts.isInterfaceDeclaration(statement) && statement.name.text === 'Native',
  );
  const methods = native.members.filter((member) => ts.isMethodSignature(member));
  return new Map(methods.map((method) => [method.name.text, method.parameters.length]));
}

/** What is wrong with the tables in these C++ sources, a line each. `sources`: pairs of a file's name and its text. */
export function wrongNames(interfaceText, sources) {
  const missing = declared(interfaceText);
  const wrong = [];
  for (const [path, text] of sources) {
    for (const [, name, callback] of text.matchAll(/\{\s*"(\w+)",\s*([^{}]*?)\s*\}/g)) {
      const count = missing.get(name);
      if (count === undefined) {
        wrong.push(`${path}: lib/native.ts has no "${name}", or it is here a second time`);
        continue;
      }
      missing.delete(name);
      const wanted = `Entry<${name[0].toUpperCase()}${name.slice(1)}, ${count}>`;
      if (callback !== wanted) wrong.push(`${path}: "${name}" is ${callback}, and should be ${wanted}`);
    }
  }
  for (const name of missing.keys()) wrong.push(`lib/native.ts: no table in native/ has "${name}"`);
  return wrong;
}

/** The same of this project. */
export function wrongNamesOf(root) {
  const files = readdirSync(join(root, 'native/js')).filter((name) => name.endsWith('_functions.cc'));
  const paths = ['native/addon.cc', ...files.map((name) => join('native/js', name))];
  const read = (path) => readFileSync(join(root, path), 'utf8');
  return wrongNames(
    read('lib/native.ts'),
    paths.map((path) => [path, read(path)]),
  );
}
