/**
 * A voice call with an edge appliance: signaling over a WebSocket, audio over WebRTC.
 *
 * Needs nothing but the modules beside it. docs/clients.md says more; shortest:
 *
 *     const call = new EdgeCall({ url: "wss://edge.example/v1/session", route: "support" });
 *     call.addEventListener("media", ({ detail }) => { audio.srcObject = detail.stream; });
 *     call.addEventListener("ended", ({ detail }) => console.log(detail.sentence, detail.advice));
 *     await call.connect();
 *
 * Events are CustomEvents; `detail` holds:
 *
 * | event        | detail                                                                   |
 * | ------------ | ------------------------------------------------------------------------ |
 * | microphone   | {stream: MediaStream}: it is open                                        |
 * | stage        | {stage: Stage}, when it is reached for the first time                    |
 * | state        | {layer: Layer, state: State}                                             |
 * | media        | {stream: MediaStream}, what to play                                      |
 * | stats        | Figures, once per `statsIntervalMs` while media is received              |
 * | reconnecting | {layer: "signaling" or "ice"}: it broke in mid-call and is being mended  |
 * | resumed      | {layer, ms: number}: it is mended, after so long                         |
 * | going-away   | {deadlineMs: number}: the server ends the call after so long; 0: now     |
 * | staying      | {}: it does not, after all                                               |
 * | ended        | Ending, once, and nothing after it                                       |
 *
 * A call survives a broken WebSocket, which is opened anew, and a change of network, on which ICE
 * is restarted; audio goes on meanwhile if there is any way for it. The server is an ICE-lite agent
 * on a public address: it needs no candidates from us, so the offer leaves before gathering has
 * begun and nothing is trickled.
 */

import { PathKeeper, watchNetwork } from "./edge-path.js";
import { Signaling, SignalingError } from "./edge-signaling.js";
import { describeEnding } from "./failures.js";
import { measure, packetsReceived } from "./statistics.js";

/** How long to pause between looks for the first packet. Chromium renews statistics every 50 ms. */
const FIRST_PACKET_POLL_MS = 20;

/**
 * @typedef {import("./statistics.js").Figures} Figures
 *
 * @typedef {"signaling" | "ice" | "dtls" | "media" | "backend"} Layer
 * Media is connected when the server has heard from us, or we from it: a backend may be silent at
 * first. Backend is seen only if the server has a connection to one for this call.
 *
 * @typedef {"connecting" | "connected" | "interrupted" | "failed" | "closed"} State
 *
 * @typedef {"signaling" | "offer" | "answer" | "ice" | "dtls" | "audio"} Stage
 * What happens during setup: WebSocket open, offer created, answer received, ICE connected, DTLS
 * connected, first audio packet received.
 *
 * @typedef {object} CallOptions
 * @property {string | URL} url the appliance's WebSocket address
 * @property {string} [token] a client secret, if the appliance asks for one
 * @property {() => Promise<string>} [getToken] fetches a client secret instead, when it is needed
 * @property {MediaTrackConstraints | true} [audio] which microphone to open; it is closed again
 * @property {MediaStream} [stream] audio to send instead; it stays the caller's and is not stopped
 * @property {string} [route] which of the server's backends to talk to; without it, the default one
 * @property {Record<string, unknown>} [metadata] JSON for the backend, up to 4,096 bytes
 * @property {number} [setupTimeoutMs] when to give up if no audio has gone through either way
 * @property {number} [recoveryTimeoutMs] when to give up if the network path stays lost
 * @property {number} [statsIntervalMs] how often to emit stats
 *
 * @typedef {object} Ending
 * @property {string} reason "hang-up" after hangUp(), a reason or error code of edge.v1, or a code
 *   of failures.js
 * @property {string} verdict the server's word for what went wrong, "ok" for nothing; else `reason`
 * @property {boolean} failed whether anything went wrong, at setup or later
 * @property {string} sentence what happened, for people
 * @property {string} advice what to do about it, for people; may be empty
 * @property {number | null} retryAfterMs when another try may succeed, if the server has said so
 */

export class EdgeCall extends EventTarget {
  /** The peer connection, for callers that want more statistics. */
  connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });

  /** What is sent, once it is there. @type {MediaStream | undefined} */
  stream;

  /** When each stage was reached, in ms since there was audio to send.
   * @type {Partial<Record<Stage, number>>} */
  timings = {};

  /**
   * When the server saw each layer connected, in ms since it had the offer.
   * @type {Record<string, number>}
   */
  serverTimings = {};

  #options;
  #signaling;
  /** Aborted when the call ends: takes all listeners off. */ #ended = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #setupTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #statsTimer;
  /** @type {Promise<void> | undefined} */ #restart;
  /** @type {Partial<Record<Layer, State>>} */ #states = {};
  #startedAt = 0;
  #settle = () => {};

  /** @param {CallOptions} options */
  constructor(options) {
    super();
    this.#options = {
      audio: true,
      setupTimeoutMs: 12_000,
      recoveryTimeoutMs: 30_000,
      statsIntervalMs: 1_000,
      ...options,
    };
    this.#signaling = new Signaling(options.url);
  }

  /** The server's name of the session, once answered: for logs and support. */
  get session() {
    return this.#signaling.session;
  }

  /**
   * Begin the call. Call once. Resolves when audio goes through or the call has ended, and never
   * rejects: what happens is told by events.
   *
   * @returns {Promise<void>}
   */
  connect() {
    const settled = new Promise((resolve) => (this.#settle = () => resolve(undefined)));
    this.#begin().catch((error) => {
      this.#fail(error instanceof SignalingError ? error.code : "offer-failed", error);
    });
    return settled;
  }

  /** Hang up. Does nothing when the call is over already. */
  hangUp() {
    this.#finish("hang-up");
  }

  /**
   * Find a new network path while audio goes on over the old one. Done by itself when the network
   * changes or the path is lost. Resolves when the server has answered, rejects if it refuses.
   *
   * @returns {Promise<void>}
   */
  restartIce() {
    this.#restart ??= this.#negotiateAgain().finally(() => (this.#restart = undefined));
    return this.#restart;
  }

  async #begin() {
    const { route, metadata, setupTimeoutMs } = this.#options;
    const stream = await this.#openMicrophone();
    if (!stream) return;
    this.#startedAt = performance.now();
    this.#setupTimer = setTimeout(() => this.#fail(this.#stuckAt()), setupTimeoutMs);
    this.#setState("signaling", "connecting");
    this.#watchSignaling();
    this.#watchConnection();
    const [sdp] = await Promise.all([this.#createOffer(stream), this.#openSignaling()]);
    const answer = await this.#signaling.offer(sdp, { route, metadata });
    this.#mark("answer");
    this.#setState("signaling", "connected");
    this.#setState("ice", "connecting");
    try {
      await this.connection.setRemoteDescription({ type: "answer", sdp: answer });
    } catch (error) {
      this.#fail("answer-refused", error);
      return;
    }
    await this.#waitFirstPacket();
  }

  /** Returns the audio to send; nothing if the call has ended. */
  async #openMicrophone() {
    const { audio } = this.#options;
    try {
      this.stream =
        this.#options.stream ?? (await navigator.mediaDevices.getUserMedia({ audio }));
    } catch (error) {
      this.#fail("microphone", error);
      return;
    }
    if (this.#ended.signal.aborted) {
      this.#closeMicrophone();
      return;
    }
    const [track] = this.stream.getAudioTracks();
    this.#on(track, "ended", () => this.#fail("microphone-lost"));
    this.#emit("microphone", { stream: this.stream });
    return this.stream;
  }

  #closeMicrophone() {
    if (this.#options.stream) return; // the caller's
    for (const track of this.stream?.getTracks() ?? []) track.stop();
  }

  /** @param {MediaStream} stream */
  async #createOffer(stream) {
    const [track] = stream.getAudioTracks();
    this.connection.addTransceiver(track, { direction: "sendrecv", streams: [stream] });
    const sdp = await this.#describe();
    this.#mark("offer");
    return sdp;
  }

  async #describe() {
    await this.connection.setLocalDescription();
    return /** @type {RTCSessionDescription} */ (this.connection.localDescription).sdp;
  }

  async #openSignaling() {
    const { token, getToken } = this.#options;
    let secret = token;
    try {
      secret ??= await getToken?.();
    } catch (error) {
      this.#fail("token-failed", error);
      return;
    }
    await this.#signaling.open(secret);
    this.#mark("signaling");
  }

  async #negotiateAgain() {
    const { connection } = this;
    while (this.timings.answer !== undefined && !this.#ended.signal.aborted) {
      connection.restartIce();
      const sdp = await this.#describe();
      try {
        const answer = await this.#signaling.offer(sdp);
        await connection.setRemoteDescription({ type: "answer", sdp: answer });
        return;
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        await connection.setLocalDescription({ type: "rollback" });
        // The WebSocket broke: offer() waits for the next one.
        if (!(error instanceof SignalingError) || error.code !== "signaling-lost") throw error;
      }
    }
  }

  #watchSignaling() {
    const signaling = this.#signaling;
    this.#on(signaling, "message", ({ detail }) => this.#receive(detail));
    this.#on(signaling, "lost", ({ detail }) => this.#fail(detail.error.code, detail.error));
    this.#on(signaling, "reconnecting", () => this.#interrupted("signaling"));
    this.#on(signaling, "resumed", ({ detail }) => this.#mended("signaling", detail.ms));
    watchNetwork(() => signaling.hurry(), this.#ended.signal);
  }

  #watchConnection() {
    const { connection } = this;
    this.#on(connection, "track", ({ track, streams }) => {
      // A remote track unmutes when its first packet arrives: more exact than polling statistics.
      this.#on(track, "unmute", () => this.#mark("audio"));
      this.#emit("media", { stream: streams[0] ?? new MediaStream([track]) });
    });
    this.#on(connection, "iceconnectionstatechange", () => {
      if (!["connected", "completed"].includes(connection.iceConnectionState)) return;
      this.#mark("ice");
      this.#setState("ice", "connected");
      if (this.timings.dtls === undefined) this.#setState("dtls", "connecting");
    });
    this.#on(connection, "connectionstatechange", () => {
      const { connectionState, iceConnectionState } = connection;
      // Chromium (156) leaves ICE disconnected while a restart waits for its answer.
      const lost = ["disconnected", "failed"].includes(iceConnectionState);
      const mending = this.#states.media === "connected" && lost;
      if (connectionState === "failed" && !mending) this.#fail(this.#stuckAt());
      if (connectionState === "connected" && this.timings.dtls === undefined) {
        this.#mark("dtls");
        this.#setState("dtls", "connected");
        if (this.#states.media !== "connected") this.#setState("media", "connecting");
      }
    });
  }

  /** @param {any} message one edge.v1 server message; types we do not know are ignored */
  #receive(message) {
    if (message.type === "going_away") {
      this.#emit("going-away", { deadlineMs: 1_000 * message.deadline });
    }
    if (message.type === "staying") this.#emit("staying", {});
    if (message.type === "bye") this.#leave(message);
    if (message.type !== "state") return;
    if (message.state === "connected") this.serverTimings[message.layer] ??= message.ms;
    if (message.layer === "backend") this.#setState("backend", message.state);
    if (message.layer === "media" && message.state === "connected") this.#mediaConnected();
  }

  /** The server has ended the session. @param {any} bye */
  #leave({ reason, verdict, message }) {
    if (reason === "going-away") this.#emit("going-away", { deadlineMs: 0 });
    if (this.timings.ice === undefined && this.#needsLoopback()) this.#fail("no-loopback");
    else if (this.#states.media === "connected") this.#finish(reason, { verdict, sentence: message });
    else this.#fail(reason, { verdict, sentence: message });
  }

  async #waitFirstPacket() {
    while (!this.#ended.signal.aborted && this.#states.media !== "connected") {
      if ((await packetsReceived(this.connection)) > 0) {
        this.#mark("audio");
        this.#mediaConnected();
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, FIRST_PACKET_POLL_MS));
    }
  }

  #mediaConnected() {
    if (this.#ended.signal.aborted || this.#states.media === "connected") return;
    clearTimeout(this.#setupTimer);
    this.#setState("media", "connected");
    const { statsIntervalMs, recoveryTimeoutMs } = this.#options;
    this.#statsTimer = setInterval(() => this.#measure(), statsIntervalMs);
    const restart = () => this.restartIce();
    const path = new PathKeeper(this.connection, restart, recoveryTimeoutMs, this.#ended.signal);
    this.#on(path, "lost", () => this.#interrupted("ice"));
    this.#on(path, "found", ({ detail }) => this.#mended("ice", detail.ms));
    this.#on(path, "given-up", () => this.#fail("ice-lost"));
    this.#settle();
  }

  async #measure() {
    const figures = await measure(this.connection);
    if (this.#ended.signal.aborted || !figures) return;
    if (figures.received > 0) this.#mark("audio");
    this.#emit("stats", figures);
  }

  /** @param {Layer} layer */
  #interrupted(layer) {
    this.#setState(layer, "interrupted");
    this.#emit("reconnecting", { layer });
  }

  /** @param {Layer} layer @param {number} ms */
  #mended(layer, ms) {
    this.#setState(layer, "connected");
    this.#emit("resumed", { layer, ms });
  }

  /** The code of a setup or connection that does not go on: which layer it waits for. */
  #stuckAt() {
    if (this.timings.signaling === undefined) return "signaling-refused";
    if (this.timings.answer === undefined) return "no-answer";
    if (this.timings.ice === undefined) return this.#needsLoopback() ? "no-loopback" : "ice-failed";
    if (this.#states.ice !== "connected") return "ice-lost";
    if (this.timings.dtls === undefined) return "dtls-failed";
    return this.#states.media === "connected" ? "connection-lost" : "no-audio";
  }

  /** Whether the answer names loopback addresses only, and Firefox (ESR 153) tries none of them. */
  #needsLoopback() {
    const sdp = this.connection.remoteDescription?.sdp ?? "";
    const hosts = [...sdp.matchAll(/^a=candidate:\S+ 1 udp \d+ (\S+)/gim)].map(([, host]) => host);
    if (!hosts.every((host) => host === "::1" || host.startsWith("127."))) return false;
    return navigator.userAgent.includes("Firefox/");
  }

  /** @param {string} code @param {any} [facts] */
  #fail(code, facts) {
    if (this.#ended.signal.aborted) return;
    // Neither a backend nor a microphone is the fault of a layer that is not connected yet.
    if (!code.startsWith("backend-") && !code.startsWith("microphone")) this.#failLayers();
    this.#finish(code, facts);
  }

  #failLayers() {
    for (const layer of /** @type {Layer[]} */ (Object.keys(this.#states))) {
      if (this.#states[layer] !== "connected") this.#setState(layer, "failed");
    }
  }

  /**
   * @param {string} reason
   * @param {any} [facts] the server's verdict and sentence, or the error that was the reason
   */
  #finish(reason, facts) {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    clearTimeout(this.#setupTimer);
    clearInterval(this.#statsTimer);
    this.#signaling.close();
    this.connection.close();
    this.#closeMicrophone();
    for (const layer of /** @type {Layer[]} */ (Object.keys(this.#states))) {
      if (this.#states[layer] !== "failed") this.#setState(layer, "closed");
    }
    this.#emit("ended", describeEnding(reason, facts, new URL(this.#options.url).host));
    this.#settle();
  }

  /** Note when a stage is reached for the first time. @param {Stage} stage */
  #mark(stage) {
    if (this.timings[stage] !== undefined) return;
    this.timings[stage] = performance.now() - this.#startedAt;
    this.#emit("stage", { stage });
  }

  /** @param {Layer} layer @param {State} state */
  #setState(layer, state) {
    if (this.#states[layer] === state) return;
    this.#states[layer] = state;
    this.#emit("state", { layer, state });
  }

  /** Listen until the call ends.
   * @param {EventTarget} target @param {string} type @param {(event: any) => void} listener */
  #on(target, type, listener) {
    target.addEventListener(type, listener, { signal: this.#ended.signal });
  }

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
