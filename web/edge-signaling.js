/**
 * The signaling protocol edge.v1 (docs/signaling.md): one conversation with an appliance, carried by
 * one WebSocket after another. When a WebSocket breaks under a session, the conversation goes on
 * over a new one, as long as the server keeps the session.
 *
 * `Signaling` knows nothing of media. Events are CustomEvents; `detail` holds:
 *
 * | event        | detail                                                                     |
 * | ------------ | -------------------------------------------------------------------------- |
 * | message      | what the server says on its own: `state`, `bye` and what is not known here |
 * | reconnecting | {}: the WebSocket broke under a session                                    |
 * | resumed      | {ms: number}, how long that took                                           |
 * | lost         | {error: SignalingError}, once: the conversation is over, without a bye     |
 */

const SUBPROTOCOL = "edge.v1";
const TOKEN_SUBPROTOCOL = "edge.token.";
const TOKEN = /^[A-Za-z0-9_.-]+$/;

/** How long to wait for a WebSocket to open, and for the answer to one message. */
const CONNECT_TIMEOUT_MS = 5_000;
const REPLY_TIMEOUT_MS = 5_000;

/** How many redirects in a row are followed. */
const REDIRECTS_MAX = 3;

/** Tries to resume: the first one soon, but not those of all clients of a server at once. */
const FIRST_PAUSE_MS = 250;
const PAUSE_MAX_MS = 4_000;

/** How long to try to resume if the appliance has not said how long it keeps the session. */
const RESUME_TIME_MS = 30_000;
/** How much longer than that to try: the appliance may notice the loss later than we do. */
const MARGIN_MS = 5_000;

/** A WebSocket is dead when nothing has come over it for so many times its heartbeat. */
const SILENT_HEARTBEATS = 1.5;

/** What makes another try to resume useless. */
const FINAL_CODES = new Set(["unknown-session", "unauthorized", "forbidden", "replaced"]);

/** What a server or the network did instead of what was asked for. */
export class SignalingError extends Error {
  /**
   * @param {string} code an error code of edge.v1, or "signaling-refused" (no WebSocket),
   *   "signaling-lost" (it broke), "no-answer"
   * @param {string} [message] the server's sentence
   * @param {number | null} [retryAfterMs] when another try may succeed
   */
  constructor(code, message = "", retryAfterMs = null) {
    super(message || code);
    this.code = code;
    this.sentence = message;
    this.retryAfterMs = retryAfterMs;
  }
}

export class Signaling extends EventTarget {
  /** The server's name of the session, once there is one. @type {string | null} */
  session = null;

  /** @type {WebSocket | undefined} */ #socket;
  /** The message that waits for its reply. @type {PromiseWithResolvers<any> | undefined} */ #asked;
  /** The latest error that was no reply. @type {SignalingError | undefined} */ #complaint;
  /** Settled when a WebSocket is usable again, or never will be. */ #usable = Promise.resolve();
  /** Ends a pause before its time. */ #hurry = () => {};
  #secret = "";
  #resumeTimeMs = RESUME_TIME_MS;
  /** How often the server says something at least; 0: it does not promise. */ #heartbeatMs = 0;
  /** Runs out when nothing comes. @type {number | undefined} */ #silence;
  /** For the WebSocket of a redirect. @type {string | undefined} */ #token;
  #resuming = false;
  #over = false;

  /** @param {string | URL} url the appliance's WebSocket address */
  constructor(url) {
    super();
    this.url = url;
  }

  /**
   * Open the first WebSocket.
   *
   * @param {string} [token] a client secret
   */
  async open(token) {
    if (token && !TOKEN.test(token)) throw new SignalingError("unauthorized");
    this.#token = token;
    this.#socket = await this.#connect(token);
  }

  /**
   * Send an offer: the first opens the session, later ones restart ICE or renegotiate.
   *
   * @param {string} sdp
   * @param {{route?: string, metadata?: Record<string, unknown>}} [wishes] for the first one
   * @returns {Promise<string>} the SDP of the answer
   * @throws {SignalingError} "signaling-lost" for a later offer: try again
   */
  async offer(sdp, wishes = {}) {
    await this.#usable;
    const answer = await this.#askAndFollow({ type: "offer", sdp, ...wishes });
    this.session = answer.session ?? this.session;
    this.#secret = answer.secret ?? this.#secret;
    if (answer.grace !== undefined) {
      this.#resumeTimeMs = answer.grace * 1000 + MARGIN_MS;
    }
    if (answer.heartbeat !== undefined) {
      this.#heartbeatMs = answer.heartbeat * 1000;
      this.#heard();
    }
    return answer.sdp;
  }

  /** Try to resume now, if a try is due later. */
  hurry() {
    this.#hurry();
  }

  /** Say bye if the session may live, and close. */
  close() {
    if (!this.#over) this.#send({ type: "bye" });
    this.#finish();
    this.#socket?.close(1000);
  }

  /** @param {string} [token] @returns {Promise<WebSocket>} an open one */
  #connect(token) {
    const protocols = token ? [SUBPROTOCOL, TOKEN_SUBPROTOCOL + token] : [SUBPROTOCOL];
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(this.url, protocols);
      const timer = setTimeout(() => socket.close(), CONNECT_TIMEOUT_MS);
      socket.addEventListener("open", () => {
        clearTimeout(timer);
        if (this.#over) socket.close();
        resolve(socket);
      });
      socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
      socket.addEventListener("close", () => {
        clearTimeout(timer);
        reject(new SignalingError("signaling-refused"));
        if (socket === this.#socket) this.#broken();
      });
    });
  }

  /** @param {object} message */
  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Send a message and return its reply. @param {object} message @returns {Promise<any>} */
  #ask(message) {
    if (this.#complaint) throw this.#complaint;
    if (this.#over || this.#socket?.readyState !== WebSocket.OPEN) {
      throw new SignalingError("signaling-lost");
    }
    const asked = withResolvers();
    const timer = setTimeout(() => {
      asked.reject(new SignalingError(this.session ? "signaling-lost" : "no-answer"));
      this.#drop(); // the way back is gone: a WebSocket may take minutes to see it
    }, REPLY_TIMEOUT_MS);
    this.#asked = asked;
    this.#send(message);
    return asked.promise.finally(() => {
      clearTimeout(timer);
      if (this.#asked === asked) this.#asked = undefined;
    });
  }

  /** As `#ask`, wherever the server redirects to. @param {object} message @returns {Promise<any>} */
  async #askAndFollow(message) {
    for (let redirects = 0; ; redirects += 1) {
      const reply = await this.#ask(message);
      if (reply.type !== "redirect") return reply;
      if (redirects === REDIRECTS_MAX || !isSafeRedirect(this.url, reply.url)) {
        throw new SignalingError("signaling-refused");
      }
      this.#forget();
      this.url = reply.url;
      this.#socket = await this.#connect(this.#token);
    }
  }

  /** @param {any} message one server message; types that are not known here are passed on */
  #receive(message) {
    if (this.#over) return;
    this.#heard();
    switch (message.type) {
      case "heartbeat":
        break;
      case "answer":
      case "resumed":
      case "redirect":
        this.#asked?.resolve(message);
        break;
      case "error":
        this.#refused(message);
        break;
      case "bye":
        this.#finish(); // first: a close that follows breaks nothing
        this.#emit("message", message);
        this.#socket?.close(1000);
        break;
      default:
        this.#emit("message", message);
    }
  }

  /** @param {{code: string, message: string, retry_after?: number}} error */
  #refused({ code, message, retry_after: seconds }) {
    const error = new SignalingError(code, message, seconds == null ? null : 1_000 * seconds);
    if (code === "replaced") this.#lose(error);
    else if (this.#asked) this.#asked.reject(error);
    else this.#complaint = error; // the WebSocket closes next
  }

  /** The WebSocket works: what follows may take as long as the server has promised. */
  #heard() {
    clearTimeout(this.#silence);
    if (this.#heartbeatMs === 0) return;
    this.#silence = setTimeout(() => {
      if (!this.#resuming) this.#drop();
    }, SILENT_HEARTBEATS * this.#heartbeatMs);
  }

  /** Give up a WebSocket that is open but does not work. */
  #drop() {
    this.#socket?.close();
    this.#broken();
  }

  #broken() {
    this.#socket = undefined;
    const error = this.#complaint ?? new SignalingError("signaling-lost");
    this.#asked?.reject(error);
    if (this.#over || this.#resuming) return;
    if (this.session && this.#secret) this.#usable = this.#resume();
    else this.#lose(error);
  }

  async #resume() {
    const startedAt = performance.now();
    this.#resuming = true;
    this.#complaint = undefined;
    this.#emit("reconnecting", {});
    for (let attempt = 0; !this.#over; attempt += 1) {
      const left = startedAt + this.#resumeTimeMs - performance.now();
      const pause = pauseBefore(attempt);
      if (pause > left) return this.#lose(new SignalingError("signaling-lost"));
      await new Promise((resolve) => {
        this.#hurry = () => resolve(undefined);
        setTimeout(resolve, pause);
      });
      try {
        await this.#attach();
      } catch (error) {
        this.#forget();
        const { code } = /** @type {SignalingError} */ (error);
        if (FINAL_CODES.has(code)) this.#lose(/** @type {SignalingError} */ (error));
        continue;
      }
      this.#resuming = false;
      this.#emit("resumed", { ms: performance.now() - startedAt });
      return;
    }
  }

  /** Open a WebSocket and have it carry the session. */
  async #attach() {
    const socket = await this.#connect();
    this.#socket = socket;
    await this.#ask({ type: "resume", session: this.session, secret: this.#secret });
  }

  /** Close a WebSocket that did not come to carry the session. */
  #forget() {
    const socket = this.#socket;
    this.#socket = undefined; // first: its close is not to be taken for a break
    this.#complaint = undefined;
    socket?.close();
  }

  /** @param {SignalingError} error */
  #lose(error) {
    if (this.#over) return;
    this.#finish();
    this.#asked?.reject(error);
    this.#emit("lost", { error });
    this.#socket?.close();
  }

  #finish() {
    this.#over = true;
    clearTimeout(this.#silence);
    this.#hurry();
  }

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @param {number} attempt counted from 0 */
function pauseBefore(attempt) {
  if (attempt === 0) return FIRST_PAUSE_MS * Math.random();
  return Math.min(PAUSE_MAX_MS, FIRST_PAUSE_MS * 2 ** attempt) * (0.5 + 0.5 * Math.random());
}

/**
 * Whether a server may send us there: never from wss to ws.
 *
 * @param {string | URL} here
 * @param {string} there
 */
function isSafeRedirect(here, there) {
  if (there.startsWith("wss://")) return true;
  return there.startsWith("ws://") && new URL(here, location.href).protocol === "ws:";
}

/** Promise.withResolvers of browsers that have none. @returns {PromiseWithResolvers<any>} */
function withResolvers() {
  let resolve, reject;
  const promise = new Promise((...functions) => ([resolve, reject] = functions));
  return /** @type {any} */ ({ promise, resolve, reject });
}
