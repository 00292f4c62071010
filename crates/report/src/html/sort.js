'use strict';
(() => {
  const scale = { n: 1e-9, 'µ': 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };
  const pattern = /^\s*([+±-]?\d[\d.]*(?:e[+-]?\d+)?)\s*(?:([nµmkKMGTP])(i?)(?=$|\s|s\b|B|W|J|Hz|FLOP))?/;
  // "12.5 ms" as 0.0125; words are not numbers.
  const number = (text) => {
    const found = pattern.exec(text);
    if (!found) return NaN;
    const [, digits, prefix, binary] = found;
    const power = { K: 1, M: 2, G: 3, T: 4, P: 5 }[prefix];
    return parseFloat(digits.replace('±', '')) *
      (binary && power ? 1024 ** power : (scale[prefix] ?? 1));
  };
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const sort = (head) => {
    const table = head.closest('table');
    const at = head.cellIndex;
    const up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const numeric = table.classList.contains('r' + (at + 1));
    const keyed = [...table.tBodies[0].rows].map((row) => {
      const text = row.cells[at].textContent;
      return [numeric ? number(text) : text, row];
    });
    // What is no number stands last, whichever way the rest is sorted.
    keyed.sort(([a], [b]) => {
      const missing = Number.isNaN(a) - Number.isNaN(b);
      return missing || (up ? order(a, b) : order(b, a));
    });
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  document.addEventListener('click', (event) => {
    const head = event.target.closest('th');
    if (head) sort(head);
  });
})();
