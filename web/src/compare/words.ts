// Where two texts part, word by word.

export interface Run {
  text: string;
  same: boolean;
}

/** Beyond this many insertions and removals the rest is called different as a whole: more would help nobody, and cost time. */
const MOST_EDITS = 400;

/** Words, signs and spaces, whose joined text is the text; Chinese and the like are cut into words too. */
export function words(text: string, language = "en"): string[] {
  const segmenter = new Intl.Segmenter(language, { granularity: "word" });
  return Array.from(segmenter.segment(text), (part) => part.segment);
}

/** Both texts as runs of what they share and what is their own. */
export function parted(left: string, right: string, language?: string): [Run[], Run[]] {
  const a = words(left, language);
  const b = words(right, language);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
  const [ours, theirs] = aligned(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  const whole = (inner: boolean[]) => [
    ...Array<boolean>(head).fill(true),
    ...inner,
    ...Array<boolean>(tail).fill(true),
  ];
  return [joined(runs(a, whole(ours))), joined(runs(b, whole(theirs)))];
}

/** Spaces and signs alone say nothing: between words that differ they count as different, or every word stood alone. */
function joined(found: Run[]): Run[] {
  const inner = (place: number): boolean => place > 0 && place < found.length - 1;
  const kept = found.map((run, place) => ({
    ...run,
    same: run.same && (!inner(place) || /[\p{L}\p{N}]/u.test(run.text)),
  }));
  return runs(
    kept.map(({ text }) => text),
    kept.map(({ same }) => same),
  );
}

/** For each word of both lists whether a longest common subsequence holds it (Myers, An O(ND) Difference Algorithm, 1986). */
export function aligned(a: string[], b: string[]): [boolean[], boolean[]] {
  const ours = Array<boolean>(a.length).fill(false);
  const theirs = Array<boolean>(b.length).fill(false);
  const steps = frontiers(a, b);
  if (steps === undefined) return [ours, theirs];
  let x = a.length;
  let y = b.length;
  for (let edits = steps.length - 1; edits >= 0; edits--) {
    const before = steps[edits] as Map<number, number>;
    const diagonal = x - y;
    const down = stepsDown(before, diagonal, edits);
    const from = down ? diagonal + 1 : diagonal - 1;
    const startX = edits === 0 ? 0 : (before.get(from) ?? 0);
    const startY = edits === 0 ? 0 : startX - from;
    while (x > startX && y > startY) {
      ours[--x] = true;
      theirs[--y] = true;
    }
    x = startX;
    y = startY;
  }
  return [ours, theirs];
}

/** How far each diagonal reached before each number of edits; undefined where too many are needed. */
function frontiers(a: string[], b: string[]): Map<number, number>[] | undefined {
  let reached = new Map<number, number>([[1, 0]]);
  const steps: Map<number, number>[] = [];
  for (let edits = 0; edits <= Math.min(MOST_EDITS, a.length + b.length); edits++) {
    steps.push(reached);
    const next = new Map(reached);
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const down = stepsDown(reached, diagonal, edits);
      let x = down ? (reached.get(diagonal + 1) ?? 0) : (reached.get(diagonal - 1) ?? 0) + 1;
      while (x < a.length && x - diagonal < b.length && a[x] === b[x - diagonal]) x++;
      next.set(diagonal, x);
      if (x >= a.length && x - diagonal >= b.length) return steps;
    }
    reached = next;
  }
  return undefined;
}

/** Whether the furthest way to a diagonal comes from the one above it (a word of the right text more). */
function stepsDown(reached: Map<number, number>, diagonal: number, edits: number): boolean {
  if (diagonal === -edits) return true;
  return diagonal !== edits && (reached.get(diagonal - 1) ?? -1) < (reached.get(diagonal + 1) ?? -1);
}

function runs(parts: string[], same: boolean[]): Run[] {
  const found: Run[] = [];
  parts.forEach((text, place) => {
    const last = found.at(-1);
    if (last && last.same === same[place]) last.text += text;
    else found.push({ text, same: same[place] ?? false });
  });
  return found;
}
