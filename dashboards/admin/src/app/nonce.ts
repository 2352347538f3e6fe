import { setNonce } from "get-nonce";

/** What the page's content policy asks of each `<style>` element that is made here; the server sets it anew for each page. */
export const styleNonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? "";

// Dialogs keep the page behind them from scrolling by a style element that the component library does not make itself.
setNonce(styleNonce);
