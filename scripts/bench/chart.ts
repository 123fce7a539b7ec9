import type { Column, Figures } from './figures.ts';
import { columnNames, short } from './report.ts';

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly isMoreBetter: boolean;
  value(figures: Figures, column: Column): number | undefined;
}

const measure = (title: string, unit: string, name: string, factor = 1, isMoreBetter = false): Panel => ({
  title, unit, isMoreBetter,
  value(figures, column) {
    const value = figures.of(column, name);
    return value === undefined ? undefined : value * factor;
  },
});

const panels: readonly Panel[] = [
  measure('Requests per second', '', 'requests/16/1024/perSecond', 1, true),
  measure('CPU per request', 'µs', 'requests/16/1024/cpuUs'),
  {
    title: 'Latency added, p50', unit: 'µs', isMoreBetter: false,
    value(figures, column) {
      const value = figures.of(column, 'requests/1/1024/p50Ms');
      const direct = figures.of('direct', 'requests/1/1024/p50Ms');
      return value === undefined || direct === undefined ? undefined : (value - direct) * 1000;
    },
  },
  measure('Delay of an event, p50', 'ms', 'streams/500/p50Ms'),
  measure('CPU per event', 'µs', 'streams/500/cpuUsPerEvent'),
  measure('Memory per stream', 'KB', 'streams/500/bytesPerStream', 1 / 1024),
];
const notes = ['16 connections, 1 KB', '16 connections, 1 KB', '1 connection, 1 KB', '500 streams', '500 streams', '500 streams'];

const width = 840;
const margin = 20;
const perRow = 3;
const gap = 32;
const panelWidth = (width - 2 * margin - (perRow - 1) * gap) / perRow;
const nameWidth = 94;
const valueWidth = 52;
const barHeight = 16;
const rowHeight = 24;
const titleHeight = 46;
const footHeight = 26;

/** An SVG of small multiples, for light and dark backgrounds. `foot` is a line about the machine and the versions. */
export function chart(figures: Figures, columns: readonly Column[], foot: string): string {
  const shown = columns.filter((column) => column !== 'direct');
  const panelHeight = titleHeight + shown.length * rowHeight + 18;
  const rows = Math.ceil(panels.length / perRow);
  const height = margin + rows * panelHeight + footHeight;
  const drawn = panels.map((panel, i) => drawPanel(
    figures, shown, panel, notes[i] ?? '', margin + (i % perRow) * (panelWidth + gap), margin + Math.floor(i / perRow) * panelHeight,
  ));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title">
<title id="title">The daemon beside its peers: requests, event streams and memory</title>
<style>
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-size: 13.5px; font-weight: 600; fill: #1f2328; }
  .ours { font-weight: 600; fill: #1f2328; }
  .note, .foot { font-size: 11px; }
  rect { fill: #afb8c1; }
  rect.ours { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title, .ours { fill: #f0f6fc; }
    rect { fill: #4d5663; }
    rect.ours { fill: #4493f8; }
  }
</style>
${drawn.join('\n')}
<text class="foot" x="${margin}" y="${height - 12}">${escaped(foot)}</text>
</svg>
`;
}

function drawPanel(figures: Figures, columns: readonly Column[], panel: Panel, note: string, left: number, top: number): string {
  const values = columns.map((column) => panel.value(figures, column));
  const most = Math.max(...values.map((value) => value ?? 0), Number.MIN_VALUE);
  const room = panelWidth - nameWidth - valueWidth;
  const lines = columns.map((column, i) => {
    const value = values[i];
    const y = top + titleHeight + i * rowHeight;
    const style = column === 'daemon' ? ' class="ours"' : '';
    const name = `<text${style} x="${fixed(left)}" y="${y + 12}">${escaped(columnNames[column])}</text>`;
    if (value === undefined) return `${name}<text x="${fixed(left + nameWidth)}" y="${y + 12}">–</text>`;
    const length = Math.max(1.5, Math.max(0, value) / most * room);
    return `${name}<rect${style} x="${fixed(left + nameWidth)}" y="${y}" width="${fixed(length)}" height="${barHeight}" rx="2"/>`
      + `<text${style} x="${fixed(left + nameWidth + length + 5)}" y="${y + 12}">${short(value)}</text>`;
  });
  const hint = panel.isMoreBetter ? 'more is better' : 'less is better';
  return [
    `<text class="title" x="${fixed(left)}" y="${top + 12}">${escaped(panel.title)}${panel.unit === '' ? '' : `, ${panel.unit}`}</text>`,
    `<text class="note" x="${fixed(left)}" y="${top + 29}">${escaped(note)}; ${hint}</text>`,
    ...lines,
  ].join('\n');
}

function fixed(value: number): string {
  return value.toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
