// What the theme leaves without a name or out of a keyboard's reach.
"use strict";

(() => {
  const mend = () => {
    document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
    document.querySelectorAll(".md-code__nav").forEach((nav, at) => {
      nav.setAttribute("aria-label", `Code block ${at + 1}`);
    });
    for (const code of document.querySelectorAll("pre code, .md-typeset__scrollwrap")) code.tabIndex = 0;
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
})();
