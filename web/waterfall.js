/** The waterfall of setup times. */

/** @typedef {import("./edge-client.js").Stage} Stage */

/**
 * What each stage waits for: its bar starts when the last of these is reached.
 * @type {Record<Stage, Stage[]>}
 */
const WAITS_FOR = {
  signaling: [],
  offer: [],
  answer: ["signaling", "offer"],
  ice: ["answer"],
  dtls: ["ice"],
  audio: ["dtls"],
};

/**
 * Show when each stage was reached. The rows are `[data-stage]` elements with a bar `i` and an
 * `output` for the stage's own duration; `data-ms` is set to the time reached since the start.
 *
 * @param {Element} list
 * @param {Partial<Record<Stage, number>>} timings ms since the start of the call
 */
export function showWaterfall(list, timings) {
  const end = Math.max(...Object.values(timings), 1);
  /** @type {NodeListOf<HTMLElement>} */
  const rows = list.querySelectorAll("[data-stage]");
  for (const row of rows) {
    const stage = /** @type {Stage} */ (row.dataset.stage);
    const bar = /** @type {HTMLElement} */ (row.querySelector("i"));
    const output = /** @type {HTMLOutputElement} */ (row.querySelector("output"));
    const reached = timings[stage];
    row.toggleAttribute("data-ms", reached !== undefined);
    output.value = "";
    if (reached === undefined) continue;
    const started = Math.max(0, ...WAITS_FOR[stage].map((earlier) => timings[earlier] ?? 0));
    row.dataset.ms = reached.toFixed(1);
    bar.style.setProperty("--from", String(Math.min(started, reached) / end));
    bar.style.setProperty("--to", String(reached / end));
    output.value = formatMs(Math.max(0, reached - started));
  }
}

/** @param {number} ms */
export function formatMs(ms) {
  return `${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)}\u00a0ms`;
}
