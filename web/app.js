/** The page: one button that connects the microphone, and everything that there is to see. */

import { Chart } from "./chart.js";
import { EdgeCall } from "./edge-client.js";
import { watchLevel } from "./level.js";
import { formatMs, showWaterfall } from "./waterfall.js";

/** @typedef {import("./edge-client.js").Figures} Figures */
/** @typedef {import("./edge-client.js").Ending} Ending */

/**
 * What tests and the curious read: the latest call and its figures so far. `timings` are those of
 * EdgeCall, in ms since the start of the call, and `microphone`: how long that took before.
 *
 * @typedef {Figures & {timings: object, serverTimings: object}} PageFigures
 * @type {Window & {edgeCall?: EdgeCall, edgeFigures?: PageFigures}}
 */
const page = window;

const button = element("connect");
const mute = /** @type {HTMLButtonElement} */ (element("mute"));
const volume = /** @type {HTMLInputElement} */ (element("volume"));
const answer = /** @type {HTMLAudioElement} */ (element("answer"));
const route = /** @type {HTMLInputElement} */ (element("route"));
const token = /** @type {HTMLInputElement} */ (element("token"));
const charts = {
  rtt: new Chart(element("rtt"), 10),
  jitter: new Chart(element("jitter"), 10),
  loss: new Chart(element("loss"), 5),
};

/** What the server calls the layers, and how people write them. @type {Record<string, string>} */
const LAYER_NAMES = { ice: "ICE", dtls: "DTLS", media: "media", backend: "backend" };

/** The phases of the page and what the button does in each. */
const BUTTON_LABELS = {
  idle: "Connect the microphone",
  asking: "Waiting for the microphone",
  connecting: "Cancel",
  connected: "Hang up",
  reconnecting: "Hang up",
};

/** What to say while a layer is being mended. */
const MENDING = {
  signaling: "The connection to the server was lost. Reconnecting; you can go on speaking.",
  ice: "The network path was lost. Looking for another one.",
};

/** Endings after which a token may help. */
const TOKEN_CODES = new Set(["unauthorized", "forbidden"]);

element("host").textContent = location.host;
route.value = new URLSearchParams(location.search).get("route") ?? "";
button.addEventListener("click", () => {
  if (button.dataset.state !== "idle") page.edgeCall?.hangUp();
  else if (route.reportValidity() && token.reportValidity()) placeCall();
});
volume.addEventListener("input", () => {
  answer.volume = volume.valueAsNumber;
});
mute.addEventListener("click", () => setMuted(mute.ariaPressed !== "true"));
addEventListener("pagehide", () => page.edgeCall?.hangUp());

function placeCall() {
  const clickedAt = performance.now();
  const call = new EdgeCall({
    url: signalingUrl(),
    token: token.value || undefined,
    route: route.value || undefined,
  });
  const { timings, serverTimings } = call;
  /** @type {Figures} */
  let figures = { rtt_ms: null, jitter_ms: null, received: 0, lost: 0 };
  let microphoneMs = 0;
  /** @type {Set<string>} layers that are being mended */
  const broken = new Set();
  /** @type {AudioContext | undefined} */
  let context;

  function publish() {
    const allTimings = { microphone: microphoneMs, ...timings };
    page.edgeFigures = { timings: allTimings, serverTimings, ...figures };
    showSetup(call, microphoneMs);
  }

  on(call, "microphone", () => {
    microphoneMs = performance.now() - clickedAt;
    setPhase("connecting");
    say("Connecting.");
  });
  on(call, "stage", publish);
  on(call, "state", ({ layer, state }) => {
    showLayer(layer, state);
    publish();
    if (layer === "media" && state === "connected") {
      setPhase("connected");
      say("Connected. Speak.");
      context = new AudioContext();
      watchLevel(context, /** @type {MediaStream} */ (call.stream), element("level-input"));
      watchLevel(context, /** @type {MediaStream} */ (answer.srcObject), element("level-output"));
    }
  });
  on(call, "media", ({ stream }) => {
    answer.srcObject = stream;
  });
  on(call, "stats", (/** @type {Figures} */ latest) => {
    showFigures(figures, latest);
    figures = latest;
    publish();
  });
  on(call, "reconnecting", ({ layer }) => {
    broken.add(layer);
    setPhase("reconnecting");
    say(MENDING[/** @type {keyof typeof MENDING} */ (layer)]);
  });
  on(call, "resumed", ({ layer }) => {
    broken.delete(layer);
    if (broken.size) return;
    setPhase("connected");
    say("Connected again. Speak.");
  });
  on(call, "ended", (/** @type {Ending} */ ending) => {
    context?.close();
    answer.srcObject = null;
    setPhase("idle");
    showEnding(ending, call.session);
  });

  page.edgeCall = call;
  reset();
  setPhase("asking");
  say("Allow the microphone to go on.");
  call.connect();
}

/** Make the page look as if there had been no call. */
function reset() {
  page.edgeFigures = undefined;
  for (const layer of Object.keys(LAYER_NAMES)) showLayer(layer, "idle");
  element("state-backend").hidden = true; // most calls have none
  for (const chart of Object.values(charts)) chart.clear();
  showWaterfall(element("waterfall"), {});
  element("setup-total").textContent = "";
  element("setup-note").textContent = "";
  setMuted(false);
}

/** @param {keyof typeof BUTTON_LABELS} phase */
function setPhase(phase) {
  button.dataset.state = phase;
  element("connect-label").textContent = BUTTON_LABELS[phase];
  mute.disabled = phase !== "connected" && phase !== "reconnecting";
  route.disabled = token.disabled = phase !== "idle";
}

/** @param {boolean} muted */
function setMuted(muted) {
  mute.ariaPressed = String(muted);
  for (const track of page.edgeCall?.stream?.getAudioTracks() ?? []) track.enabled = !muted;
}

/** @param {string} status */
function say(status) {
  element("status").textContent = status;
  element("error").replaceChildren();
}

/**
 * Say why it is over and what to do about it.
 *
 * @param {Ending} ending
 * @param {string | null} session
 */
function showEnding({ reason, verdict, failed, sentence, advice }, session) {
  token.value = ""; // good for one call
  if (TOKEN_CODES.has(reason)) showTokenField();
  if (!failed) {
    say(sentence);
    return;
  }
  say("Not connected.");
  const facts = document.createElement("small");
  facts.textContent = session ? `${verdict} · session ${session}` : verdict;
  element("error").append(`${sentence} ${advice}`, facts);
}

function showTokenField() {
  token.hidden = false;
  for (const label of token.labels ?? []) label.hidden = false;
  token.focus();
}

/** @param {string} layer @param {string} state */
function showLayer(layer, state) {
  const item = document.getElementById(`state-${layer}`);
  if (!item) return; // the signaling layer has no lamp
  item.dataset.state = state;
  item.hidden = false;
  /** @type {Element} */ (item.querySelector("em")).textContent = state;
}

/** @param {EdgeCall} call @param {number} microphoneMs */
function showSetup({ timings, serverTimings }, microphoneMs) {
  showWaterfall(element("waterfall"), timings);
  if (timings.audio === undefined) return;
  element("setup-total").textContent = formatMs(timings.audio);
  const seen = Object.entries(serverTimings).map(([layer, ms]) => {
    return `${LAYER_NAMES[layer]}\u00a0${formatMs(ms)}`;
  });
  element("setup-note").textContent =
    `The microphone took ${formatMs(microphoneMs)} before that.` +
    (seen.length ? ` On the server, since the offer: ${seen.join(", ")}.` : "");
}

/** @param {Figures} before @param {Figures} now */
function showFigures(before, now) {
  const lost = Math.max(0, now.lost - before.lost);
  const sent = lost + now.received - before.received;
  charts.rtt.push(now.rtt_ms);
  charts.jitter.push(now.jitter_ms);
  charts.loss.push(
    sent ? (100 * lost) / sent : null,
    `${now.lost.toLocaleString("en")} of ${(now.lost + now.received).toLocaleString("en")} packets`,
  );
}

function signalingUrl() {
  const url = new URL("/v1/session", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** @param {EdgeCall} call @param {string} type @param {(detail: any) => void} listener */
function on(call, type, listener) {
  call.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
}

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}
