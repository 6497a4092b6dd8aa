import type { JSX } from "preact";
import { decimal, percent, t, type Key } from "../i18n";
import { interval, type Candidate, type Stage, type WrittenToken } from "./record";
import { visible } from "./visible";

/** Everything about one written token: its rivals, what each stage of the sampler left, and the draw. */
export function TokenDetail({ token, index }: { token: WrittenToken; index: number }): JSX.Element {
  return (
    <div class="gb-detail">
      <h4>
        {t("glassbox.token", { n: index + 1 })}{" "}
        <code class="gb-text" dir="auto">
          {visible(token.text)}
        </code>
        <span class="gb-id">{t("glassbox.id", { id: String(token.id) })}</span>
      </h4>
      <p>
        {t("glassbox.raw-probability", { p: percent(Math.exp(token.logprob)) })}{" "}
        {token.probability !== undefined && t("glassbox.final-probability", { p: percent(token.probability) })}
      </p>
      {token.top.length > 0 && <Rivals token={token} />}
      {token.stages && <Stages stages={token.stages} chosen={token.id} />}
      {token.draw !== undefined && <Draw token={token} draw={token.draw} />}
    </div>
  );
}

function Rivals({ token }: { token: WrittenToken }): JSX.Element {
  const listed = token.top.some((rival) => rival.id === token.id);
  const rows = listed ? token.top : [...token.top, token];
  return (
    <table class="gb-bars">
      <caption>{t("glassbox.alternatives")}</caption>
      <thead>
        <tr>
          <th scope="col">{t("glassbox.column.token")}</th>
          <th scope="col">{t("glassbox.column.id")}</th>
          <th scope="col">{t("glassbox.column.probability")}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((rival) => (
          <tr key={rival.id} class={rival.id === token.id ? "gb-chosen" : ""}>
            <th scope="row">
              <code class="gb-text" dir="auto">
                {visible(rival.text)}
              </code>
              {rival.id === token.id && <span class="gb-mark">✓ {t("glassbox.chosen")}</span>}
            </th>
            <td class="gb-number">{rival.id}</td>
            <td>
              <Bar share={Math.exp(rival.logprob)} />
              <span class="gb-number">{percent(Math.exp(rival.logprob))}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Bar({ share }: { share: number }): JSX.Element {
  return (
    <span class="gb-bar" aria-hidden="true">
      <span style={{ width: `${Math.min(100, share * 100)}%` }} />
    </span>
  );
}

const STAGES: Record<string, Key> = {
  raw: "glassbox.stage.raw",
  penalties: "glassbox.stage.penalties",
  temperature: "glassbox.stage.temperature",
  top_k: "glassbox.stage.top_k",
  top_p: "glassbox.stage.top_p",
  min_p: "glassbox.stage.min_p",
  typical_p: "glassbox.stage.typical_p",
};

const LISTED = 5;

function Stages({ stages, chosen }: { stages: Stage[]; chosen: number }): JSX.Element {
  return (
    <section aria-label={t("glassbox.stages")}>
      <h5>{t("glassbox.stages")}</h5>
      <ol class="gb-stages">
        {stages.map((stage, place) => (
          <li key={place} data-stage={stage.name}>
            <p>
              <strong>{stageName(stage.name)}</strong>{" "}
              <span class="gb-left">{t("glassbox.survivors", { n: stage.survivors })}</span>{" "}
              {place > 0 && <Removed before={stages[place - 1]?.survivors ?? 0} after={stage.survivors} />}
            </p>
            <ol class="gb-likeliest">
              {stage.top.slice(0, LISTED).map((candidate) => (
                <Likely key={candidate.id} candidate={candidate} chosen={candidate.id === chosen} />
              ))}
            </ol>
          </li>
        ))}
      </ol>
    </section>
  );
}

function stageName(name: string): string {
  const key = STAGES[name];
  return key ? t(key) : name;
}

function Removed({ before, after }: { before: number; after: number }): JSX.Element | null {
  return before > after ? <span class="gb-removed">{t("glassbox.removed", { n: before - after })}</span> : null;
}

function Likely({ candidate, chosen }: { candidate: Candidate; chosen: boolean }): JSX.Element {
  return (
    <li class={chosen ? "gb-chosen" : ""}>
      <code class="gb-text" dir="auto">
        {visible(candidate.text)}
      </code>
      <span class="gb-number">{percent(candidate.p)}</span>
      {chosen && (
        <span class="gb-mark" aria-label={t("glassbox.chosen")} role="img">
          ✓
        </span>
      )}
    </li>
  );
}

/** The unit interval, cut as the last stage cut it among its candidates, and where the uniform number fell. */
function Draw({ token, draw }: { token: WrittenToken; draw: number | null }): JSX.Element {
  const own = interval(token);
  if (draw === null) {
    return (
      <section aria-label={t("glassbox.draw")}>
        <h5>{t("glassbox.draw")}</h5>
        <p>{t("glassbox.greedy")}</p>
      </section>
    );
  }
  const said = own
    ? t("glassbox.drawn", { draw: decimal(draw, 4), from: decimal(own[0], 4), to: decimal(own[1], 4) })
    : t("glassbox.drawn-far", { draw: decimal(draw, 4) });
  return (
    <section aria-label={t("glassbox.draw")}>
      <h5>{t("glassbox.draw")}</h5>
      <div class="gb-draw" aria-hidden="true">
        {cuts(token.stages?.at(-1)?.top ?? []).map((cut, place) => (
          <span
            key={place}
            class={`gb-cut gb-cut-${place % 2}`}
            style={{ left: share(cut.from), width: share(cut.to - cut.from) }}
          />
        ))}
        {own && <span class="gb-own" style={{ left: share(own[0]), width: share(own[1] - own[0]) }} />}
        <span class="gb-needle" style={{ left: share(draw) }} />
      </div>
      <p>{said}</p>
    </section>
  );
}

function cuts(top: Candidate[]): { from: number; to: number }[] {
  let from = 0;
  return top.map((candidate) => {
    const cut = { from, to: Math.min(1, from + candidate.p) };
    from = cut.to;
    return cut;
  });
}

function share(part: number): string {
  return `${(part * 100).toFixed(3)}%`;
}
