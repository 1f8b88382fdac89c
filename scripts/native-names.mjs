// One name on every floor: what `lib/native.ts` calls a function, its table in native/js calls it, too, and so is the C++
// function named; with as many arguments. The registers have the same names and numbers on both.

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

/** What differs between `Register` in lib/native.ts and the enumeration in native/js/registers.h, a line each. */
export function wrongRegisters(nativeText, headerText) {
  const [, object] = /^export const Register = \{([^}]*)\}/m.exec(nativeText);
  const here = [...object.matchAll(/(\w+): (\d+),/g)].map(([, name, number]) => `${name} ${number}`);
  const [, enumeration] = /^enum class Register [^{]*\{([^}]*)\}/m.exec(headerText);
  const there = [...enumeration.matchAll(/k(\w)(\w*) = (\d+),/g)].map(
    ([, first, rest, number]) => `${first.toLowerCase()}${rest} ${number}`,
  );
  const differing = [
    ...here.filter((one) => !there.includes(one)),
    ...there.filter((one) => !here.includes(one)),
  ];
  return differing.map(
    (one) => `lib/native.ts and native/js/registers.h do not both have the register ${one}`,
  );
}

/** The same of this project. */
export function wrongNamesOf(root) {
  const files = readdirSync(join(root, 'native/js')).filter((name) => name.endsWith('_functions.cc'));
  const paths = ['native/addon.cc', ...files.map((name) => join('native/js', name))];
  const read = (path) => readFileSync(join(root, path), 'utf8');
  const interfaceText = read('lib/native.ts');
  return [
    ...wrongNames(
      interfaceText,
      paths.map((path) => [path, read(path)]),
    ),
    ...wrongRegisters(interfaceText, read('native/js/registers.h')),
  ];
}
