/** A live line chart of one figure over the last minute, drawn as SVG. */

const POINTS = 60;
const SVG = "http://www.w3.org/2000/svg";

export class Chart {
  /** @type {(number | null)[]} */ #values = [];
  #figure;
  #area = document.createElementNS(SVG, "path");
  #line = document.createElementNS(SVG, "path");

  /**
   * @param {HTMLElement} figure has a `figcaption`, a `strong` for the number with its unit in a
   *   `span` beside it, an `svg` of 59 × 100 with a `small` for the value of its upper edge, and a
   *   `.note`
   * @param {number} floor the least value of the upper edge
   */
  constructor(figure, floor) {
    this.#figure = figure;
    this.floor = floor;
    this.#area.classList.add("area");
    this.#line.classList.add("line");
    this.#part("svg").append(this.#area, this.#line);
    this.clear();
  }

  /**
   * Add one second's value, or null when it is unknown, and say `note` below the chart.
   *
   * @param {number | null} value
   * @param {string} [note]
   */
  push(value, note) {
    this.#values = [...this.#values, value].slice(-POINTS);
    const peak = Math.max(0, ...this.#values.map((known) => known ?? 0));
    this.#show(value, note ?? `peak ${this.#format(peak)}`);
    this.#draw(Math.max(this.floor, ceiling(peak)));
  }

  /** Forget everything. */
  clear() {
    this.#values = [];
    this.#show(null, "last minute");
    this.#draw(this.floor);
  }

  /** @param {number | null} value @param {string} note */
  #show(value, note) {
    this.#part("strong").textContent = value === null ? "" : round(value);
    this.#part(".note").textContent = note;
    const now = value === null ? "not measured" : `now ${this.#format(value)}`;
    const name = this.#part("figcaption").textContent;
    this.#part("svg").setAttribute("aria-label", `${name}: ${now}, ${note}`);
  }

  /** @param {number} top the value at the upper edge */
  #draw(top) {
    this.#part("small").textContent = this.#format(top);
    const first = POINTS - this.#values.length;
    const points = this.#values.flatMap((value, index) =>
      value === null ? [] : [{ x: first + index, y: 100 - (100 * value) / top }],
    );
    const path = points.map(({ x, y }) => `${x} ${y.toFixed(2)}`).join("L");
    this.#line.setAttribute("d", path && `M${path}`);
    this.#area.setAttribute("d", path && `M${points[0].x} 100L${path}L${POINTS - 1} 100Z`);
  }

  /** @param {number} value */
  #format(value) {
    return `${round(value)}\u00a0${this.#part("span").textContent}`;
  }

  /** @param {string} selector */
  #part(selector) {
    return /** @type {Element} */ (this.#figure.querySelector(selector));
  }
}

/** @param {number} value */
function round(value) {
  return value.toLocaleString("en", { maximumFractionDigits: 1 });
}

/**
 * The next of 1, 2, 5, 10, 20, 50 … that is not below the value.
 *
 * @param {number} value
 */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((edge) => edge >= value) ?? value;
}
