"use strict";
// Sorting by the headings, and a search, for tables that are complete without this script.
(function () {
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // What a cell is sorted by: null where it is missing.
  function key(cell, numeric) {
    const shown = cell.textContent.trim();
    if (!numeric) return shown === "" || shown === "." ? null : shown;
    const text = cell.dataset.value ?? shown;
    const value = text === "" ? NaN : Number(text.replace(/^(-?)inf$/i, "$1Infinity"));
    return Number.isNaN(value) ? null : value;
  }

  function compare(a, b, numeric) {
    return numeric ? (a < b ? -1 : a > b ? 1 : 0) : collator.compare(a, b);
  }

  function sort(table, place) {
    const heading = table.tHead.rows[0].cells[place];
    const numeric = heading.dataset.type === "number";
    const before = heading.getAttribute("aria-sort");
    const first = heading.dataset.first || "ascending";
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, key: key(row.cells[place], numeric) }));
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) {
        return (a.key === null) - (b.key === null) || a.row.dataset.place - b.row.dataset.place;
      }
      return sign * compare(a.key, b.key, numeric) || a.row.dataset.place - b.row.dataset.place;
    });
    const sorted = document.createDocumentFragment();
    for (const { row } of rows) sorted.append(row);
    body.append(sorted);
  }

  function makeSortable(table) {
    Array.from(table.tBodies[0].rows).forEach((row, place) => { row.dataset.place = place; });
    Array.from(table.tHead.rows[0].cells).forEach((heading, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, place));
    });
  }

  function makeSearchable(table, controls) {
    const field = controls.querySelector("input");
    const column = controls.querySelector("select");
    const count = controls.querySelector("output");
    const rows = Array.from(table.tBodies[0].rows, (row) => ({
      row,
      cells: Array.from(row.cells, (cell) => cell.textContent.toLowerCase()),
    }));
    function search() {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { row, cells } of rows) {
        const text = column.value === "" ? cells.join("\n") : cells[Number(column.value)];
        row.hidden = !words.every((word) => text.includes(word));
        if (!row.hidden) shown += 1;
      }
      count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    }
    field.addEventListener("input", search);
    column.addEventListener("change", search);
    controls.querySelector("button").addEventListener("click", () => save(table));
    controls.hidden = false;
    search();
  }

  // The rows that are shown, in the order in which they are shown.
  function save(table) {
    const rows = [table.tHead.rows[0], ...table.tBodies[0].rows].filter((row) => !row.hidden);
    const lines = rows.map((row) =>
      Array.from(row.cells, (cell) => cell.textContent.trim().replace(/[\t\r\n]+/g, " ")).join("\t"));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/tab-separated-values" }));
    link.download = `${table.id || "table"}.tsv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    makeSortable(table);
    const controls = table.closest(".scroll").previousElementSibling;
    if (table.hasAttribute("data-searchable") && controls !== null) makeSearchable(table, controls);
  }
})();
