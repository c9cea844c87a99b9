// What the pages do besides being read. Without this script nothing is missing but these conveniences.
"use strict";

// Light or dark: as the system has it, until the reader presses the button. The choice stays on this device.
const scheme = document.getElementById("scheme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.style.colorScheme || (system.matches ? "dark" : "light")) === "dark";
const label = () => { scheme.textContent = isDark() ? "Light" : "Dark"; };
if (scheme) {
  scheme.hidden = false;
  label();
  system.addEventListener("change", label);
  scheme.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.style.colorScheme = chosen;
    try { localStorage.setItem("scheme", chosen); } catch { /* private window */ }
    label();
  });
}

// A box that scrolls must be reachable with the keyboard; one that does not scroll must not be a stop on the way.
const reach = (box) => {
  if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
  else box.removeAttribute("tabindex");
};
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target)));
const boxes = document.querySelectorAll(".scrolls");
boxes.forEach((box) => sizes.observe(box));
document.fonts.ready.then(() => boxes.forEach(reach));  // formulas change their width, not their box's

// Copy code, where the browser lets a page do that.
if (navigator.clipboard) {
  document.querySelectorAll(".cell_input .highlight, .highlight-python .highlight, .highlight-sh .highlight").forEach((code) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent.trimEnd());
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.parentElement.classList.add("copies");
    code.before(button);
  });
}

// Paper shows what is folded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((box) => { box.open = true; });
});
addEventListener("afterprint", () => folded.forEach((box) => { box.open = false; }));
