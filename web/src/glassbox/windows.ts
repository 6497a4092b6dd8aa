// Long lists are cut into pieces, and only those near what is seen are drawn.

export const PIECE = 200;

export interface Span {
  start: number;
  end: number;
}

export function spans(count: number, size = PIECE): Span[] {
  const found: Span[] = [];
  for (let start = 0; start < count; start += size) found.push({ start, end: Math.min(start + size, count) });
  return found;
}

/** Where a key leads from `index` among `count` places; undefined for keys that do not move. */
export function moved(key: string, index: number, count: number): number | undefined {
  const steps: Record<string, number> = {
    ArrowRight: 1,
    ArrowDown: 1,
    ArrowLeft: -1,
    ArrowUp: -1,
    PageDown: 20,
    PageUp: -20,
  };
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  const step = steps[key];
  return step === undefined ? undefined : Math.max(0, Math.min(count - 1, index + step));
}
