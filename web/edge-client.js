/**
 * A voice call with an edge appliance: signaling over a WebSocket, audio over WebRTC.
 *
 * Reusable and without dependencies. The caller opens the microphone and plays the sound:
 *
 *     const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
 *     const url = "wss://edge.example/v1/session";
 *     const call = new EdgeCall({ url, stream, route: "support", metadata: { user: "u-17" } });
 *     call.addEventListener("track", ({ detail }) => { audio.srcObject = detail.stream; });
 *     call.addEventListener("closed", ({ detail }) => console.log(detail.reason));
 *     call.start();
 *
 * Events are CustomEvents; `detail` holds:
 *
 * | event  | detail                                                                      |
 * | ------ | --------------------------------------------------------------------------- |
 * | state  | {layer: Layer, state: State}                                                |
 * | stage  | {stage: Stage}, when it is reached for the first time                       |
 * | track  | {stream: MediaStream}, what to play                                         |
 * | stats  | Figures, once per `statsIntervalMs` while media is received                 |
 * | error  | {code: string, message: string}, always followed by closed                  |
 * | closed | {reason: string, message: string}, once; "hang-up" when it was close()      |
 *
 * The server is an ICE-lite agent on a public address: it needs no candidates from us, so the offer
 * leaves before gathering has begun and nothing is trickled. Messages: docs/signaling.md.
 */

const SUBPROTOCOL = "edge.v1";

/** How long to pause between looks for the first packet. Chromium renews statistics every 50 ms. */
const FIRST_PACKET_POLL_MS = 20;

/**
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
 * @property {MediaStream} stream audio to send; it stays the caller's and is not stopped
 * @property {string} [route] which of the server's backends to talk to; without it, the default one
 * @property {Record<string, unknown>} [metadata] JSON for the backend, up to 4,096 bytes
 * @property {number} [setupTimeoutMs] when to give up if no audio has gone through either way
 * @property {number} [statsIntervalMs] how often to emit stats
 *
 * @typedef {object} Figures
 * @property {number | null} rtt_ms round trip to the server; null until measured
 * @property {number | null} jitter_ms interarrival jitter of the received audio (RFC 3550 §6.4.1)
 * @property {number} received packets received since the start of the call
 * @property {number} lost packets lost on their way to us since the start of the call
 */

export class EdgeCall extends EventTarget {
  /** The peer connection, for callers that want more statistics. */
  connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });

  /** The server's name of the session, once answered. @type {string | null} */
  session = null;

  /** When each stage was reached, in ms since start(). @type {Partial<Record<Stage, number>>} */
  timings = {};

  /**
   * When the server saw each layer connected, in ms since it had the offer.
   * @type {Record<string, number>}
   */
  serverTimings = {};

  /** @type {WebSocket | undefined} */ #socket;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #setupTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #statsTimer;
  /** @type {Partial<Record<Layer, State>>} */ #states = {};
  #startedAt = 0;
  #closed = false;

  /** @param {CallOptions} options */
  constructor({ url, stream, route, metadata, setupTimeoutMs = 12_000, statsIntervalMs = 1_000 }) {
    super();
    this.url = url;
    this.stream = stream;
    this.route = route;
    this.metadata = metadata;
    this.setupTimeoutMs = setupTimeoutMs;
    this.statsIntervalMs = statsIntervalMs;
  }

  /** Begin the call. Call once; everything that follows is told by events. */
  start() {
    this.#startedAt = performance.now();
    this.#setupTimer = setTimeout(() => this.#fail(this.#stuckAt()), this.setupTimeoutMs);
    this.#setState("signaling", "connecting");
    this.#watchConnection();
    Promise.all([this.#createOffer(), this.#openSocket()])
      .then(([sdp]) => {
        this.#send({ type: "offer", sdp, route: this.route, metadata: this.metadata });
      })
      .catch((error) => this.#fail("offer-failed", error.message));
  }

  /** Hang up. Does nothing when the call is over already. */
  close() {
    this.#end("hang-up");
  }

  async #createOffer() {
    const [track] = this.stream.getAudioTracks();
    this.connection.addTransceiver(track, { direction: "sendrecv", streams: [this.stream] });
    await this.connection.setLocalDescription();
    this.#mark("offer");
    return this.connection.localDescription?.sdp;
  }

  /** Resolves when the WebSocket is open; a refusal ends the call instead. */
  async #openSocket() {
    const socket = new WebSocket(this.url, SUBPROTOCOL);
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener("close", () => {
      this.#fail(this.timings.signaling === undefined ? "signaling-refused" : "signaling-lost");
    });
    await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
    this.#mark("signaling");
  }

  /** @param {object} message */
  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** @param {any} message one edge.v1 server message; types we do not know are ignored */
  #receive(message) {
    switch (message.type) {
      case "answer":
        this.#accept(message);
        break;
      case "state":
        if (message.state === "connected") this.serverTimings[message.layer] = message.ms;
        if (message.layer === "backend") this.#setState("backend", message.state);
        if (message.layer === "media" && message.state === "connected") this.#mediaConnected();
        break;
      case "bye":
        this.#leave(message);
        break;
      case "error":
        this.#fail(message.code, message.message);
        break;
    }
  }

  /** @param {{sdp: string, session: string}} answer */
  async #accept({ sdp, session }) {
    this.session = session;
    this.#mark("answer");
    this.#setState("signaling", "connected");
    this.#setState("ice", "connecting");
    try {
      await this.connection.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.#fail("answer-refused", String(error));
      return;
    }
    await this.#waitFirstPacket();
  }

  /** The server has ended the session. @param {{reason: string, message: string}} bye */
  #leave({ reason, message }) {
    if (reason === "setup-timeout") this.#fail(this.#stuckAt());
    else if (this.#states.media === "connected") this.#end(reason, message);
    else this.#fail(reason, message);
  }

  #watchConnection() {
    const { connection } = this;
    connection.addEventListener("track", ({ track, streams }) => {
      // A remote track unmutes when its first packet arrives: more exact than polling statistics.
      track.addEventListener("unmute", () => this.#mark("audio"), { once: true });
      this.#emit("track", { stream: streams[0] ?? new MediaStream([track]) });
    });
    connection.addEventListener("iceconnectionstatechange", () => {
      if (connection.iceConnectionState === "disconnected") this.#setState("ice", "interrupted");
      if (["connected", "completed"].includes(connection.iceConnectionState)) {
        this.#mark("ice");
        this.#setState("ice", "connected");
        if (this.timings.dtls === undefined) this.#setState("dtls", "connecting");
      }
    });
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "failed") this.#fail(this.#stuckAt());
      if (connection.connectionState === "connected" && this.timings.dtls === undefined) {
        this.#mark("dtls");
        this.#setState("dtls", "connected");
        if (this.#states.media !== "connected") this.#setState("media", "connecting");
      }
    });
  }

  async #waitFirstPacket() {
    const [{ receiver }] = this.connection.getTransceivers();
    while (!this.#closed && this.#states.media !== "connected") {
      const inbound = find(await receiver.getStats(), "inbound-rtp");
      if (inbound?.packetsReceived > 0) {
        this.#mark("audio");
        this.#mediaConnected();
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, FIRST_PACKET_POLL_MS));
    }
  }

  #mediaConnected() {
    if (this.#closed || this.#states.media === "connected") return;
    clearTimeout(this.#setupTimer);
    this.#setState("media", "connected");
    this.#statsTimer = setInterval(() => this.#measure(), this.statsIntervalMs);
  }

  async #measure() {
    const report = await this.connection.getStats();
    const inbound = find(report, "inbound-rtp");
    const pair = find(report, "candidate-pair", (stat) => stat.nominated);
    const remote = find(report, "remote-inbound-rtp");
    if (this.#closed || !inbound) return;
    if (inbound.packetsReceived > 0) this.#mark("audio");
    this.#emit("stats", {
      rtt_ms: milliseconds(remote?.roundTripTime ?? pair?.currentRoundTripTime),
      jitter_ms: milliseconds(inbound.jitter),
      received: inbound.packetsReceived,
      lost: Math.max(0, inbound.packetsLost),
    });
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

  /** @param {string} code @param {string} [message] */
  #fail(code, message = "") {
    if (this.#closed) return;
    if (!code.startsWith("backend-")) this.#failLayers(); // those are not to blame otherwise
    this.#emit("error", { code, message });
    this.#end(code, message);
  }

  #failLayers() {
    for (const layer of /** @type {Layer[]} */ (Object.keys(this.#states))) {
      if (this.#states[layer] !== "connected") this.#setState(layer, "failed");
    }
  }

  /** @param {string} reason @param {string} [message] */
  #end(reason, message = "") {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#setupTimer);
    clearInterval(this.#statsTimer);
    this.#send({ type: "bye" });
    this.#socket?.close();
    this.connection.close();
    for (const layer of /** @type {Layer[]} */ (Object.keys(this.#states))) {
      if (this.#states[layer] !== "failed") this.#setState(layer, "closed");
    }
    this.#emit("closed", { reason, message });
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

  /** @param {string} type @param {object} detail */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * @param {RTCStatsReport} report
 * @param {string} type
 * @param {(stat: any) => boolean} [accept]
 * @returns {any}
 */
function find(report, type, accept = () => true) {
  return [...report.values()].find((stat) => stat.type === type && accept(stat));
}

/** @param {number | undefined} seconds */
function milliseconds(seconds) {
  return seconds === undefined ? null : seconds * 1_000;
}
