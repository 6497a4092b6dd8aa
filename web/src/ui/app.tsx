/** The whole page. */

import { useEffect, useRef } from "preact/hooks";
import type { CompareProps } from "../compare/Compare";
import { t } from "../i18n";
import { stop } from "../state/chatting";
import { closeNav, focusMessage, isWide, MESSAGE, navOpen } from "../state/layout";
import { addressOf, LIST, place, view, VIEWS, type Place } from "../state/place";
import { current, keepNow, models, panel } from "../state/store";
import { titleOf } from "../state/tree";
import { Announcer } from "./announce";
import { Chat } from "./Chat";
import { Header } from "./Header";
import { lazy } from "./lazy";
import { closePanel, SidePanel } from "./Panel";
import { beginAnew, Sidebar } from "./Sidebar";

const Catalogue = lazy(() => import("../catalogue/Catalogue").then((found) => found.Catalogue));
const Compare = lazy<CompareProps>(() => import("../compare/Compare").then((found) => found.Compare));

export function App() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    addEventListener("pagehide", keepNow);
    document.addEventListener("visibilitychange", keepIfHidden);
    return () => {
      removeEventListener("keydown", onKey);
      removeEventListener("pagehide", keepNow);
      document.removeEventListener("visibilitychange", keepIfHidden);
    };
  }, []);
  useArrival();
  const title = called(place.value);
  useEffect(() => {
    document.title = title ? `${title} · ${t("app.name")}` : t("app.name");
  }, [title]);
  const covered = navOpen.value && !isWide.value;
  const under = covered || (panel.value !== "none" && !isWide.value);
  return (
    <div class="page" data-nav={navOpen.value} data-panel={panel.value}>
      {view.value === "chat" && (
        <a
          class="skip"
          href={`#${MESSAGE}`}
          onClick={(event) => {
            event.preventDefault();
            focusMessage();
          }}
        >
          {t("app.skip")}
        </a>
      )}
      <Sidebar />
      {covered && <div class="scrim" onClick={closeNav} />}
      {/* What lies under the list or a panel on a narrow screen takes neither keys nor clicks. */}
      <div class="stage" inert={under}>
        <Header />
        <main>
          {view.value === "chat" && <Chat />}
          {view.value === "compare" && <Compare models={models.value.filter((card) => card.generates)} />}
          {view.value === "catalogue" && <Catalogue />}
        </main>
      </div>
      <SidePanel />
      <Announcer />
    </div>
  );
}

/** What the browser calls a place, in its tabs and history. */
function called(where: Place): string {
  if (where.view === "chat") return titleOf(current.value);
  const names = "tree" in where ? t("catalogue.tree") : "names" in where ? where.names.join(", ") : "";
  return [names, t(VIEWS[where.view])].filter(Boolean).join(" · ");
}

/** Takes the keyboard along to another place: to its heading, or in the catalogue's list to what was just looked at. */
function useArrival(): void {
  const before = useRef(place.value);
  useEffect(() => {
    const last = before.current;
    before.current = place.value;
    if (last === place.value) return undefined; // the page has just begun: the browser says where the keyboard is
    if (!isWide.value) navOpen.value = false;
    if (!isWide.value) panel.value = "none";
    const frame = requestAnimationFrame(() => {
      const main = document.querySelector("main");
      if (!main || main.contains(document.activeElement)) return; // a view that has put it somewhere itself
      const links = addressOf(place.value) === LIST ? [...main.querySelectorAll("a")] : [];
      const left = links.find((link) => link.getAttribute("href") === addressOf(last));
      (left ?? document.querySelector<HTMLElement>("h1"))?.focus();
    });
    return () => cancelAnimationFrame(frame);
  }, [place.value]);
}

function keepIfHidden(): void {
  if (document.hidden) void keepNow();
}

function onKey(event: KeyboardEvent): void {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    beginAnew();
    return;
  }
  if (event.key !== "Escape" || event.isComposing || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (navOpen.value && !isWide.value) {
    closeNav();
  } else if (panel.value !== "none" && document.activeElement?.closest(".panel")) {
    closePanel();
  } else {
    stop(current.value.id);
  }
}
