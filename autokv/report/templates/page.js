"use strict";
(() => {
  // A picture is one stop of the Tab key; the arrow keys go from dot to dot, in the order of the horizontal axis.
  for (const chart of document.querySelectorAll(".chart")) {
    const across = (dot) => Number(dot.querySelector(".reach").getAttribute("cx"));
    const dots = [...chart.querySelectorAll(".dot")].sort((one, other) => across(one) - across(other));
    dots.forEach((dot, place) => {
      dot.tabIndex = place ? -1 : 0;
      dot.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        const next = event.key === "Home" ? dots[0] : event.key === "End" ? dots.at(-1) : dots[place + step];
        if (!next) return;
        event.preventDefault();
        dot.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      });
    });
  }

  // One box beside the dot that is pointed at or focused, in place of the browser's own slow one.
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  let shown = null;
  const hide = () => { tip.hidden = true; };
  const show = (target, text) => {
    shown = target;
    tip.textContent = text;
    tip.hidden = false;
    beside();
  };
  const beside = () => {
    const at = shown.querySelector(".reach").getBoundingClientRect();
    const room = { x: document.documentElement.clientWidth, y: document.documentElement.clientHeight };
    const left = at.right + 6 + tip.offsetWidth <= room.x - 8 ? at.right + 6 : at.left - 6 - tip.offsetWidth;
    const top = Math.min(at.top, room.y - tip.offsetHeight - 8);
    tip.style.left = `${Math.max(8, Math.min(left, room.x - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };
  for (const target of document.querySelectorAll(".dot, .zone")) {
    const title = target.querySelector("title");
    const text = title.textContent;
    title.remove();
    target.addEventListener("pointerenter", () => show(target, text));
    target.addEventListener("pointerleave", hide);
    target.addEventListener("focus", () => show(target, text));
    target.addEventListener("blur", hide);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (!tip.hidden) beside(); }, { passive: true });

  // What is folded away belongs on paper too.
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
  });

  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // A page opened from a file may not be allowed to; leave the text selected for the keyboard.
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  };
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", () => copy(button));
  }
})();
