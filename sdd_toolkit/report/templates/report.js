"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Before/after sliders: a range input over the pictures, so that mouse, touch and keyboard all work.
  for (const box of all(".compare")) {
    const range = box.querySelector("input");
    const show = () => box.style.setProperty("--at", range.value + "%");
    range.addEventListener("input", show);
    show();
  }

  const table = document.getElementById("pairs-table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const cards = all(".pair");
  const search = document.getElementById("search");
  const verdict = document.getElementById("verdict");
  const reason = document.getElementById("reason");
  const shown = document.getElementById("shown");

  const fits = (element) =>
    (!verdict.value || element.dataset.verdict === verdict.value) &&
    (!reason.value || element.dataset.reason === reason.value) &&
    element.dataset.words.includes(search.value.trim().toLowerCase());

  const filter = () => {
    let count = 0;
    for (const row of rows) {
      row.hidden = !fits(row);
      count += row.hidden ? 0 : 1;
    }
    for (const card of cards) card.hidden = !fits(card);
    shown.textContent = `${count} of ${rows.length} pairs`;
  };
  for (const control of [search, verdict, reason]) control.addEventListener("input", filter);
  document.getElementById("filters").hidden = false;
  filter();

  const value = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? cell.dataset.sort : cell.textContent.trim().toLowerCase();
  };
  // Missing values stay last in both directions.
  const compare = (a, b, numeric, sign) => {
    if (a === b) return 0;
    if (a === "") return 1;
    if (b === "") return -1;
    return sign * (numeric ? Number(a) - Number(b) : a < b ? -1 : 1);
  };
  for (const button of all("th button", table)) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of all("th", table)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.classList.contains("number");
      const column = head.cellIndex;
      rows.sort((a, b) => compare(value(a, column), value(b, column), numeric, up ? 1 : -1));
      body.append(...rows);
    });
  }

  // A link to a card that the filter hides shows it.
  const reveal = () => {
    const card = location.hash.startsWith("#pair-") && document.getElementById(location.hash.slice(1));
    if (card && card.hidden) {
      card.hidden = false;
      card.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", reveal);
})();
