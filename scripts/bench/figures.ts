import type { PeerName } from './peers.ts';

/** What was measured: the peers, and the upstream with nothing in between. */
export type Column = PeerName | 'direct';

/** What was measured, all runs of it, by names like `requests/16/1024/cpuUs`. */
export class Figures {
  readonly #runs = new Map<string, Map<Column, number[]>>();

  /** Notes what one run brought; what is not a number could not be measured. */
  add(column: Column, measure: string, values: object): void {
    for (const [name, value] of Object.entries(values)) {
      if (Number.isFinite(value)) this.#runsOf(`${measure}/${name}`, column).push(value);
    }
  }

  /** The median of all runs; undefined where there were none. */
  of(column: Column, name: string): number | undefined {
    const sorted = this.#runs.get(name)?.get(column)?.toSorted((a, b) => a - b);
    if (sorted === undefined || sorted.length === 0) return undefined;
    const middle = (sorted.length - 1) / 2;
    return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
  }

  toJSON(): object {
    return Object.fromEntries([...this.#runs].map(([name, columns]) => [name, Object.fromEntries([...columns].map(([column, runs]) => [column, { median: this.of(column, name), runs }]))]));
  }

  #runsOf(name: string, column: Column): number[] {
    const columns = this.#runs.get(name) ?? new Map<Column, number[]>();
    this.#runs.set(name, columns);
    const runs = columns.get(column) ?? [];
    columns.set(column, runs);
    return runs;
  }
}
