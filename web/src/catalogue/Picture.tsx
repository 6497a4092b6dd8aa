import type { JSX } from "preact";
import { t } from "../i18n";
import { LIST } from "../state/place";

interface PictureProps {
  path: string;
  name: string;
  /** Whether it is a view of its own, with a way back to the list. */
  withBack?: boolean;
}

/** A picture that the server draws, at its own size: it may be wider than the page, and is then moved about in. */
export function Picture({ path, name, withBack = false }: PictureProps): JSX.Element {
  return (
    <figure class="cat-picture">
      {withBack && (
        <a class="small" href={LIST}>
          {t("catalogue.back")}
        </a>
      )}
      <div class="cat-scroll" tabIndex={0} role="region" aria-label={name}>
        <img src={new URL(path, document.baseURI).href} alt={name} loading="lazy" />
      </div>
    </figure>
  );
}
