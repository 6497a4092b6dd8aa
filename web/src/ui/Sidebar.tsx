/** The conversations this browser keeps. */

import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { moment, t } from "../i18n";
import { exported, ImportError, imported } from "../state/transfer";
import { closeNav, focusMessage, isWide, leaveNav, navOpen } from "../state/layout";
import { addressOf, CHAT, LIST, view, VIEWS, type View } from "../state/place";
import { adopt, begin, currentId, forget, keeps, listed, open, rename } from "../state/store";
import { matches, titleOf, type Conversation } from "../state/tree";
import { announce } from "./announce";
import { Confirm } from "./Confirm";
import { Icon, type IconName } from "./icons";
import { running } from "../state/chatting";

export function beginAnew(): void {
  begin();
  leaveNav();
  focusMessage();
}

export function Sidebar() {
  const [query, setQuery] = useState("");
  const shown = listed.value.filter((conversation) => matches(conversation, query));
  const nav = useRef<HTMLElement>(null);
  // While one answer grows, the other conversations' entries stay what they are.
  const drawn = useRef(new WeakMap<Conversation, VNode>());
  const draw = (conversation: Conversation): VNode => {
    const view = drawn.current.get(conversation) ?? <Entry key={conversation.id} conversation={conversation} />;
    drawn.current.set(conversation, view);
    return view;
  };
  useEffect(() => {
    // Opened over the conversation, it is where the keyboard is.
    if (navOpen.value && !isWide.value) nav.current?.querySelector<HTMLElement>("button")?.focus();
  }, [navOpen.value]);
  return (
    <nav class="sidebar" id="sidebar" aria-label={t("nav.label")} ref={nav} hidden={!navOpen.value}>
      <div class="sidebar-head">
        <span class="brand">
          <Fence />
          {t("app.name")}
        </span>
        <button type="button" class="icon-button only-narrow" aria-label={t("nav.close")} onClick={closeNav}>
          <Icon name="close" />
        </button>
      </div>
      <Views />
      <button type="button" class="wide-button" onClick={beginAnew}>
        <Icon name="plus" />
        {t("nav.new")}
      </button>
      <label class="search">
        <span class="visually-hidden">{t("nav.search")}</span>
        <Icon name="search" />
        <input
          type="search"
          value={query}
          placeholder={t("nav.search")}
          onInput={(event) => setQuery(event.currentTarget.value)}
        />
      </label>
      {shown.length === 0 && <p class="quiet">{t(query ? "nav.no-match" : "nav.none")}</p>}
      <ul class="conversations">
        {shown.map(draw)}
      </ul>
      <Transfer />
    </nav>
  );
}

function Fence() {
  return (
    <svg class="fence" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M5 20V5m7 15V5m7 15V5M3 9.5h18M3 15h18" />
    </svg>
  );
}

const ICONS: Readonly<Record<View, IconName>> = { chat: "chat", compare: "columns", catalogue: "books" };

const ADDRESSES: Readonly<Record<View, string>> = { chat: addressOf(CHAT), compare: addressOf({ view: "compare" }), catalogue: LIST };

function Views() {
  return (
    <div class="views">
      {(Object.keys(VIEWS) as View[]).map((each) => (
        <a key={each} href={ADDRESSES[each]} aria-current={view.value === each ? "page" : undefined} onClick={leaveNav}>
          <Icon name={ICONS[each]} />
          {t(VIEWS[each])}
        </a>
      ))}
    </div>
  );
}

function Entry({ conversation }: { conversation: Conversation }) {
  const [naming, setNaming] = useState(false);
  const [asking, setAsking] = useState(false);
  const { id } = conversation;
  const title = titleOf(conversation) || t("nav.untitled");
  const here = currentId.value === id && view.value === "chat";
  if (naming) return <Naming conversation={conversation} done={() => setNaming(false)} />;
  const choose = (): void => {
    open(id);
    leaveNav();
  };
  return (
    <li class="entry" data-here={here}>
      <button
        type="button"
        class="entry-title"
        aria-current={here ? "page" : undefined}
        title={moment(conversation.changed)}
        onClick={choose}
        dir="auto"
      >
        {running.value.has(id) && <span class="pulse" role="img" aria-label={t("turn.writing")} />}
        {title}
      </button>
      <span class="entry-acts">
        <EntryAct icon="edit" name={t("nav.rename", { title })} act={() => setNaming(true)} />
        <EntryAct icon="export" name={t("nav.export", { title })} act={() => download([conversation], title)} />
        <EntryAct icon="trash" name={t("nav.delete", { title })} act={() => setAsking(true)} />
      </span>
      {asking && (
        <Confirm
          question={t("nav.delete-ask", { title })}
          yes={t("nav.delete-yes")}
          onYes={() => {
            void forget(id);
            if (isWide.value) focusMessage();
          }}
          onEnd={() => setAsking(false)}
        />
      )}
    </li>
  );
}

function EntryAct({ icon, name, act }: { icon: "edit" | "export" | "trash"; name: string; act: () => void }) {
  return (
    <button type="button" class="icon-button" aria-label={name} title={name} onClick={act}>
      <Icon name={icon} />
    </button>
  );
}

function Naming({ conversation, done }: { conversation: Conversation; done: () => void }) {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.select(), []);
  const keep = (): void => {
    if (input.current) rename(conversation.id, input.current.value);
    done();
  };
  return (
    <li class="entry">
      <form
        class="naming"
        onSubmit={(event) => {
          event.preventDefault();
          keep();
        }}
      >
        <input
          ref={input}
          aria-label={t("nav.rename-label")}
          defaultValue={titleOf(conversation)}
          maxLength={200}
          onBlur={keep}
          onKeyDown={(event) => {
            if (event.key !== "Escape") return;
            event.stopPropagation();
            input.current!.value = titleOf(conversation);
            done();
          }}
        />
      </form>
    </li>
  );
}

/** To a file, and from one. */
function Transfer() {
  const file = useRef<HTMLInputElement>(null);
  const [said, setSaid] = useState("");
  const say = (text: string): void => {
    setSaid(text);
    announce(text);
  };
  const read = async (chosen: File): Promise<void> => {
    try {
      const brought = imported(await chosen.text());
      adopt(brought);
      say(t("nav.imported", { count: brought.length }));
    } catch (error) {
      say(t("nav.import-failed", { why: whyNot(error) }));
    }
  };
  return (
    <div class="sidebar-foot">
      {said && <p class="quiet">{said}</p>}
      {keeps.value === false && <p class="warning">{t("app.not-kept")}</p>}
      <div class="row">
        <button type="button" class="small" onClick={() => file.current?.click()}>
          <Icon name="import" />
          {t("nav.import")}
        </button>
        <button type="button" class="small" disabled={!listed.value.length} onClick={() => download(listed.value, "paddock")}>
          <Icon name="export" />
          {t("nav.export-all")}
        </button>
      </div>
      <input
        ref={file}
        type="file"
        hidden
        accept="application/json,.json"
        aria-label={t("nav.import")}
        onChange={(event) => {
          const chosen = event.currentTarget.files?.[0];
          event.currentTarget.value = ""; // the same file may be chosen again
          if (chosen) void read(chosen);
        }}
      />
    </div>
  );
}

function whyNot(error: unknown): string {
  const place = error instanceof ImportError ? error.place : "json";
  if (place === "size") return t("nav.import-size");
  if (place === "json") return t("nav.import-json");
  if (place === "format") return t("nav.import-format");
  return t("nav.import-place", { place });
}

function download(conversations: readonly Conversation[], title: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([exported(conversations)], { type: "application/json" }));
  link.download = `${title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "paddock"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
