/** The page: one button that connects the microphone, and everything that there is to see. */

import { Chart } from "./chart.js";
import { EdgeCall } from "./edge-client.js";
import { MICROPHONE_LOST, callSentence, microphoneSentence } from "./failures.js";
import { watchLevel } from "./level.js";
import { formatMs, showWaterfall } from "./waterfall.js";

/** @typedef {import("./edge-client.js").Figures} Figures */

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
};

element("host").textContent = location.host;
route.value = new URLSearchParams(location.search).get("route") ?? "";
button.addEventListener("click", () => {
  if (button.dataset.state !== "idle") page.edgeCall?.close();
  else if (route.reportValidity()) connect();
});
volume.addEventListener("input", () => {
  answer.volume = volume.valueAsNumber;
});
mute.addEventListener("click", () => setMuted(mute.ariaPressed !== "true"));
addEventListener("pagehide", () => page.edgeCall?.close());

async function connect() {
  const clickedAt = performance.now();
  reset();
  setPhase("asking");
  say("Allow the microphone to go on.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    setPhase("idle");
    say("Not connected.", microphoneSentence(error));
    return;
  }
  placeCall(stream, performance.now() - clickedAt);
}

/**
 * @param {MediaStream} stream
 * @param {number} microphoneMs how long it took to open
 */
function placeCall(stream, microphoneMs) {
  const call = new EdgeCall({ url: signalingUrl(), stream, route: route.value || undefined });
  const { timings, serverTimings } = call;
  /** @type {Figures} */
  let figures = { rtt_ms: null, jitter_ms: null, received: 0, lost: 0 };
  /** @type {AudioContext | undefined} */
  let context;

  function publish() {
    const allTimings = { microphone: microphoneMs, ...timings };
    page.edgeFigures = { timings: allTimings, serverTimings, ...figures };
    showSetup(call, microphoneMs);
  }

  on(call, "stage", publish);
  on(call, "state", ({ layer, state }) => {
    showLayer(layer, state);
    publish();
    if (layer === "media" && state === "connected") {
      setPhase("connected");
      say("Connected. Speak.");
      context = new AudioContext();
      watchLevel(context, stream, element("level-input"));
      watchLevel(context, /** @type {MediaStream} */ (answer.srcObject), element("level-output"));
    }
  });
  on(call, "track", (detail) => {
    answer.srcObject = detail.stream;
  });
  on(call, "stats", (/** @type {Figures} */ latest) => {
    showFigures(figures, latest);
    figures = latest;
    publish();
  });
  on(call, "closed", ({ reason, message }) => {
    for (const track of stream.getTracks()) track.stop();
    context?.close();
    answer.srcObject = null;
    setPhase("idle");
    if (reason === "hang-up") say("The call has ended.");
    else if (reason === "backend-ended") say("The other side has hung up.");
    else say("Not connected.", callSentence(reason, message));
  });
  stream.getAudioTracks()[0].addEventListener("ended", () => {
    call.close();
    say("Not connected.", MICROPHONE_LOST);
  });

  page.edgeCall = call;
  setPhase("connecting");
  say("Connecting.");
  call.start();
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
  mute.disabled = phase !== "connected";
  route.disabled = phase !== "idle";
}

/** @param {boolean} muted */
function setMuted(muted) {
  mute.ariaPressed = String(muted);
  for (const track of page.edgeCall?.stream.getAudioTracks() ?? []) track.enabled = !muted;
}

/** @param {string} status @param {string} [failure] */
function say(status, failure = "") {
  element("status").textContent = status;
  element("error").textContent = failure;
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
