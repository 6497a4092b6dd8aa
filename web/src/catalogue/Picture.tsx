import type { JSX } from "preact";
import { t } from "../i18n";

interface PictureProps {
  path: string;
  name: string;
  back?: () => void;
}

/** A picture that the server draws, at its own size: it may be wider than the page, and is then moved about in. */
export function Picture({ path, name, back }: PictureProps): JSX.Element {
  return (
    <figure class="cat-picture">
      {back && (
        <button type="button" onClick={back}>
          {t("catalogue.back")}
        </button>
      )}
      <div class="cat-scroll" tabIndex={0} role="region" aria-label={name}>
        <img src={new URL(path, document.baseURI).href} alt={name} loading="lazy" />
      </div>
    </figure>
  );
}
