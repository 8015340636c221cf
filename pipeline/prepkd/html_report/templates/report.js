// Charts, sorting and filtering. Everything is readable without: tables stand in the page as they are.
(() => {
  'use strict';

  // Vega's expressions are interpreted (ast), since the page's policy forbids eval.
  const options = { actions: false, ast: true, renderer: 'svg', defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  for (const place of document.querySelectorAll('[data-spec]')) {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    if (spec.usermeta.square) spec.height = Math.min(spec.height, place.clientWidth);
    vegaEmbed(place, spec, options).then(
      () => {
        // The place has a label and a table; the marks would be read one by one.
        place.querySelector('svg').setAttribute('aria-hidden', 'true');
        place.setAttribute('data-drawn', '');
      },
      (error) => console.error(place.dataset.spec, error),
    );
  }

  const valueOf = (row, place, numeric) => {
    const cell = row.cells[place];
    if (!numeric) return cell.textContent;
    return 'value' in cell.dataset ? Number(cell.dataset.value) : NaN;
  };

  // Empty cells stay last in both directions.
  const compare = (a, b, direction) => {
    if (typeof a === 'string') return direction * a.localeCompare(b, 'en', { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return direction * (a - b);
  };

  for (const table of document.querySelectorAll('[data-table] table')) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      head.querySelector('button').addEventListener('click', () => {
        const numeric = head.classList.contains('number');
        const first = numeric ? 'descending' : 'ascending';
        const second = numeric ? 'ascending' : 'descending';
        const order = head.getAttribute('aria-sort') === first ? second : first;
        heads.forEach((other) => other.setAttribute('aria-sort', other === head ? order : 'none'));
        const direction = order === 'ascending' ? 1 : -1;
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [valueOf(row, place, numeric), row]);
        rows.sort(([a], [b]) => compare(a, b, direction));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const block of document.querySelectorAll('[data-table], [data-gallery]')) {
    const field = block.querySelector('input[type=search]');
    if (!field) continue;
    const items = [...block.querySelectorAll('tbody tr, .card')];
    const texts = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
    const count = block.querySelector('.count');
    field.addEventListener('input', () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = items.filter((item) => {
        item.hidden = !words.every((word) => texts.get(item).includes(word));
        return !item.hidden;
      });
      count.textContent = words.length ? `${shown.length} of ${items.length}` : '';
    });
  }
})();
