// Projects that compile with exactOptionalPropertyTypes pass options on that may be undefined.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';
import { packageRoot } from '../support/programs.js';

/** What users pass in objects: by their types' names, or where a parameter spells it out. */
const isOfOptions = (node: ts.Node): boolean => {
  for (let at: ts.Node = node.parent; at !== undefined; at = at.parent) {
    if (ts.isParameter(at)) return true;
    if (ts.isInterfaceDeclaration(at)) return /(Options|Details|Range)$/.test(at.name.text);
  }
  return false;
};

const allowsUndefined = (type: ts.TypeNode | undefined): boolean =>
  type !== undefined &&
  (type.kind === ts.SyntaxKind.UnknownKeyword ||
    (ts.isUnionTypeNode(type) && type.types.some(({ kind }) => kind === ts.SyntaxKind.UndefinedKeyword)));

test('every option that may be left out may be undefined', () => {
  const folder = join(packageRoot, 'dist/package');
  let count = 0;
  const exact: string[] = [];
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.d.ts'))) {
    const text = readFileSync(join(folder, name), 'utf8');
    const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
    const visit = (node: ts.Node): void => {
      if (ts.isPropertySignature(node) && node.questionToken !== undefined && isOfOptions(node)) {
        count += 1;
        if (!allowsUndefined(node.type)) exact.push(`${name}: ${node.getText()}`);
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  assert.deepEqual(exact, []);
  assert.ok(count > 50, `${count} options`);
});
