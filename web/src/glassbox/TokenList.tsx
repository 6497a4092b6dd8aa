import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { breaks, visible } from "./visible";
import { moved, spans, type Span } from "./windows";
import type { Token } from "./record";

/** How one token looks: `kind` are class names, `label` what a screen reader says, `share` the length of its bar, 0 to 1. */
export interface Chip {
  kind: string;
  label: string;
  share?: number;
}

export interface TokenListProps<T extends Token> {
  label: string;
  tokens: readonly T[];
  /** Must keep its identity while it would draw the same: it decides what is drawn again. */
  chip: (token: T, index: number) => Chip;
  active: number | undefined;
  onActive: (index: number) => void;
}

/** Tokens in a row, any number of them; one can be chosen with the mouse, a finger, or the arrow keys. */
export function TokenList<T extends Token>({ label, tokens, chip, active, onActive }: TokenListProps<T>): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  const wanted = useRef<number | null>(null);
  const stop = active ?? 0;
  useLayoutEffect(() => {
    if (wanted.current === null) return;
    const target = root.current?.querySelector<HTMLElement>(`[data-index="${wanted.current}"]`);
    wanted.current = null;
    target?.focus({ preventScroll: true });
    target?.scrollIntoView({ block: "nearest" });
  }, [active]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const next = moved(event.key, stop, tokens.length);
    if (next === undefined) return;
    event.preventDefault();
    wanted.current = next;
    onActive(next);
  };
  const pick = useCallback(
    (event: Event) => {
      const index = (event.target as HTMLElement).closest<HTMLElement>("[data-index]")?.dataset["index"];
      if (index !== undefined) onActive(Number(index));
    },
    [onActive],
  );
  return (
    <div
      ref={root}
      class="gb-tokens"
      role="listbox"
      aria-label={label}
      onKeyDown={onKeyDown}
      onClick={pick}
      onFocusIn={pick}
    >
      {spans(tokens.length).map((span) => (
        <Piece
          key={span.start}
          span={span}
          tokens={tokens}
          chip={chip}
          stop={within(span, stop)}
          chosen={within(span, active)}
        />
      ))}
    </div>
  );
}

function within(span: Span, index: number | undefined): number | undefined {
  return index !== undefined && index >= span.start && index < span.end ? index : undefined;
}

interface PieceProps<T extends Token> {
  span: Span;
  tokens: readonly T[];
  chip: (token: T, index: number) => Chip;
  stop: number | undefined;
  chosen: number | undefined;
}

/** Height a token takes before it was ever drawn, in pixels: some ten of them stand in a line of 28. */
const GUESS = 2.8;

function PlainPiece<T extends Token>({ span, tokens, chip, stop, chosen }: PieceProps<T>): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const height = useRef((span.end - span.start) * GUESS);
  const near = useNear(box, span.start === 0);
  const drawn = near || stop !== undefined;
  useEffect(() => {
    if (drawn && box.current) height.current = box.current.offsetHeight;
  });
  const rows = drawn ? tokens.slice(span.start, span.end) : [];
  return (
    <div ref={box} class="gb-piece" role="presentation" style={drawn ? {} : { minHeight: `${height.current}px` }}>
      {rows.map((token, place) => {
        const index = span.start + place;
        return (
          <Shown
            key={index}
            index={index}
            token={token}
            {...chip(token, index)}
            stop={stop === index}
            chosen={chosen === index}
          />
        );
      })}
    </div>
  );
}

function sameTokens<T extends Token>(before: PieceProps<T>, after: PieceProps<T>): boolean {
  const { start, end } = after.span;
  return (
    before.span.end === end &&
    before.tokens[start] === after.tokens[start] &&
    before.tokens[end - 1] === after.tokens[end - 1]
  );
}

const Piece = memo(
  PlainPiece,
  (before, after) =>
    before.chip === after.chip &&
    before.stop === after.stop &&
    before.chosen === after.chosen &&
    sameTokens(before, after),
) as typeof PlainPiece;

interface ShownProps extends Chip {
  index: number;
  token: Token;
  stop: boolean;
  chosen: boolean;
}

function Shown({ index, token, kind, label, share, stop, chosen }: ShownProps): JSX.Element {
  return (
    <>
      <span
        class={`gb-chip ${kind}`}
        role="option"
        data-index={index}
        tabIndex={stop ? 0 : -1}
        aria-selected={chosen}
        aria-label={label}
        title={label}
        dir="auto"
      >
        {visible(token.text)}
        {share !== undefined && <span class="gb-share" style={{ width: `${Math.round(share * 100)}%` }} />}
      </span>
      {breaks(token.text) && <span class="gb-break" role="presentation" />}
    </>
  );
}

/** Whether an element is on screen or nearly so. Always true where the browser cannot tell. */
function useNear(element: { current: HTMLElement | null }, first: boolean): boolean {
  const [near, setNear] = useState(first || typeof IntersectionObserver === "undefined");
  useEffect(() => {
    if (!element.current || typeof IntersectionObserver === "undefined") return;
    const root = element.current.closest(".gb-scroll");
    const observer = new IntersectionObserver((entries) => setNear(entries.some((entry) => entry.isIntersecting)), {
      root,
      rootMargin: "400px",
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return near;
}
