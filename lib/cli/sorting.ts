/** The value to sort by: numbers begin with the largest, strings with the first. */
export type SortKeys<Row> = Readonly<Record<string, (row: Row) => number | string | undefined>>;

function compare(a: number | string | undefined, b: number | string | undefined): number {
  // Unknown values come last.
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  if (typeof a === 'number' && typeof b === 'number') return b - a;
  return a < b ? -1 : Number(a > b);
}

/** Sorted rows, at most `limit` of them; rows that are equal keep their order. */
export function sortRows<Row>(
  rows: readonly Row[],
  keys: SortKeys<Row>,
  {
    sort,
    reverse = false,
    limit,
  }: { sort: string; reverse?: boolean | undefined; limit?: number | undefined },
): Row[] {
  const key = keys[sort] ?? (() => undefined);
  const sorted = [...rows].sort((a, b) => compare(key(a), key(b)));
  if (reverse) sorted.reverse();
  return limit === undefined ? sorted : sorted.slice(0, limit);
}
