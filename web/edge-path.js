/**
 * Keeps a connected call's network path: sees when the network changes or the path is lost, and has
 * ICE restarted until there is a path again.
 *
 * Events are CustomEvents; `detail` holds:
 *
 * | event    | detail                                                    |
 * | -------- | --------------------------------------------------------- |
 * | lost     | {}: no answers come any more                              |
 * | found    | {ms: number}: a path works again, after so long           |
 * | given-up | {}: there was none for `recoveryTimeoutMs`                |
 */

/** How long a restarted ICE may take to connect before it is restarted again. */
const RESTART_INTERVAL_MS = 5_000;

export class PathKeeper extends EventTarget {
  #connection;
  #restart;
  #recoveryTimeoutMs;
  #signal;
  /** When the path was lost; null while there is one. @type {number | null} */ #lostAt = null;

  /**
   * @param {RTCPeerConnection} connection has a path already
   * @param {() => Promise<void>} restart restarts ICE; rejects if the server refuses
   * @param {number} recoveryTimeoutMs
   * @param {AbortSignal} signal ends the watch
   */
  constructor(connection, restart, recoveryTimeoutMs, signal) {
    super();
    this.#connection = connection;
    this.#restart = restart;
    this.#recoveryTimeoutMs = recoveryTimeoutMs;
    this.#signal = signal;
    connection.addEventListener("iceconnectionstatechange", () => this.#look(), { signal });
    watchNetwork(() => this.#restart().catch(() => {}), signal); // the old path may still be good
    this.#look();
  }

  #look() {
    const state = this.#connection.iceConnectionState;
    if (state === "disconnected" || state === "failed") this.#lost();
    else if (state === "connected" || state === "completed") this.#found();
  }

  #lost() {
    if (this.#lostAt !== null) return;
    this.#lostAt = performance.now();
    this.#emit("lost", {});
    this.#recover(this.#lostAt);
  }

  #found() {
    if (this.#lostAt === null) return;
    const ms = performance.now() - this.#lostAt;
    this.#lostAt = null;
    this.#emit("found", { ms });
  }

  /** @param {number} lostAt of the loss that this is about */
  async #recover(lostAt) {
    while (this.#lostAt === lostAt && !this.#signal.aborted) {
      const left = lostAt + this.#recoveryTimeoutMs - performance.now();
      if (left <= 0) {
        this.#emit("given-up", {});
        return;
      }
      this.#restart().catch(() => {}); // refused: the next one may be taken
      await sleep(Math.min(RESTART_INTERVAL_MS, left));
    }
  }

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * Tell when the device has another network than before.
 *
 * @param {() => void} changed
 * @param {AbortSignal} signal ends the watch
 */
export function watchNetwork(changed, signal) {
  window.addEventListener("online", changed, { signal });
  const network = /** @type {any} */ (navigator).connection;
  let type = network?.type; // on phones only; without it, "change" tells estimates of the speed
  network?.addEventListener(
    "change",
    () => {
      if (network.type === type) return;
      ({ type } = network);
      if (type !== "none") changed();
    },
    { signal },
  );
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
