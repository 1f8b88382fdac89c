import assert from 'node:assert/strict';

/** A line of values in Prometheus' text format. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/**
 * Reads the text format as its specification has it (prometheus.io/docs/instrumenting/exposition_formats), strictly: what
 * does not fit fails the test.
 */
export function parseExposition(text: string): Sample[] {
  assert.ok(text.endsWith('\n'), 'the last line does not end');
  const samples: Sample[] = [];
  const described = new Set<string>();
  const seen = new Set<string>();
  for (const line of text.split('\n').slice(0, -1)) {
    if (line === '') continue;
    const [, keyword, about] = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) .+$/.exec(line) ?? [];
    if (keyword !== undefined) {
      assert.ok(!described.has(`${keyword} ${about}`), `${line}: described twice`);
      described.add(`${keyword} ${about}`);
      continue;
    }
    const [, name = '', inBraces, value = ''] =
      /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\["\\n])*",?)*)\})? (\S+)$/.exec(line) ?? [];
    assert.notEqual(name, '', `this is no line of the text format: ${JSON.stringify(line)}`);
    assert.ok(described.has(`TYPE ${name}`), `${name} has no type`);
    const labels: Record<string, string> = {};
    for (const [, label = '', escaped = ''] of (inBraces ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      assert.ok(!(label in labels), `${line}: a label twice`);
      labels[label] = escaped.replace(/\\(.)/g, (_, character: string) =>
        character === 'n' ? '\n' : character,
      );
    }
    const key = `${name} ${JSON.stringify(Object.entries(labels).sort())}`;
    assert.ok(!seen.has(key), `${line}: a series twice`);
    seen.add(key);
    assert.match(value, /^(?:[+-]Inf|NaN|-?\d+(?:\.\d+)?(?:e[+-]\d+)?)$/);
    samples.push({ name, labels, value: Number(value) });
  }
  return samples;
}

/** The one value of a metric with these labels; undefined when there is none. */
export function sampled(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const found = samples.filter(
    (sample) =>
      sample.name === name &&
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  assert.ok(found.length <= 1, `${name} ${JSON.stringify(labels)} has ${found.length} values`);
  return found[0]?.value;
}

/** All values of a metric by one of its labels. */
export function valuesBy(samples: readonly Sample[], name: string, label: string): Record<string, number> {
  const found = samples.filter((sample) => sample.name === name);
  return Object.fromEntries(found.map(({ labels, value }) => [labels[label] as string, value]));
}
