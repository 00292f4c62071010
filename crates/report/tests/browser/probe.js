'use strict';
// Runs inside the page that is tested, at its end of loading; what it finds goes to the console.
(() => {
  const found = { errors: [], refused: [] };
  addEventListener('error', (event) => found.errors.push(String(event.message)));
  addEventListener('securitypolicyviolation', (event) => found.refused.push(event.violatedDirective));
  const meet = (a, b) =>
    a.left + 1 < b.right && b.left + 1 < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
  const overlaps = (chart) => {
    const texts = [...chart.querySelectorAll('text')];
    const boxes = texts.map((text) => text.getBoundingClientRect());
    const pairs = [];
    for (let a = 0; a < boxes.length; a += 1) {
      for (let b = a + 1; b < boxes.length; b += 1) {
        if (meet(boxes[a], boxes[b])) pairs.push(texts[a].textContent + ' / ' + texts[b].textContent);
      }
    }
    return pairs;
  };
  const beyond = (chart) => {
    const frame = chart.getBoundingClientRect();
    return [...chart.querySelectorAll('text')]
      .filter((text) => {
        const box = text.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1;
      })
      .map((text) => text.textContent);
  };
  const column = (table, at) => [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);
  const sorted = () => {
    const table = [...document.querySelectorAll('section.rows table')]
      .find((table) => table.tBodies[0].rows.length > 2);
    if (!table) return null;
    const head = table.tHead.rows[0].cells[1];
    head.querySelector('button').click();
    const up = column(table, 1);
    head.querySelector('button').click();
    return { up, down: column(table, 1), sort: head.getAttribute('aria-sort') };
  };
  addEventListener('load', () => {
    // Asking for a size makes the browser lay the page out.
    found.page_width = document.documentElement.scrollWidth;
    found.drawn_ms = performance.now();
    const charts = [...document.querySelectorAll('svg.chart')]
      .filter((chart) => chart.getClientRects().length > 0);
    found.charts = charts.length;
    found.empty = charts.filter((chart) => chart.getBoundingClientRect().height < 100).length;
    found.overlaps = charts.flatMap(overlaps);
    found.beyond = charts.flatMap(beyond);
    found.sorted = sorted();
    found.requests = performance.getEntriesByType('resource').map((entry) => entry.name);
    found.width = innerWidth;
    found.dark = matchMedia('(prefers-color-scheme: dark)').matches;
    found.paper = getComputedStyle(document.body).backgroundColor;
    found.ink = getComputedStyle(document.body).color;
    console.log('probe:' + JSON.stringify(found));
  });
})();
