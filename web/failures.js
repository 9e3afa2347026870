/** Plain sentences for everything that can end a call, and what to do about it. */

/** Names of the exceptions that getUserMedia raises. @type {Record<string, [string, string]>} */
const MICROPHONE = {
  NotAllowedError: [
    "The microphone is blocked.",
    "Allow it for this page in the browser, then connect again.",
  ],
  NotFoundError: ["No microphone was found.", "Plug one in, then connect again."],
  NotReadableError: [
    "The microphone does not start.",
    "Another program may be using it: close that one, then connect again.",
  ],
};
const INSECURE = "Browsers give the microphone only to pages on localhost or over HTTPS.";

const AGAIN = "Connect again.";
const LATER = "Try again in a moment.";
const CHECK_NETWORK = "Check the network, then connect again.";
const ANOTHER_BROWSER = "Try another browser, and tell the operator if that helps.";
const TELL_OPERATOR = "If it happens again, tell the operator of {host}.";

/**
 * A sentence and advice by the server's verdict, its reason or error code, or our own code.
 *
 * @type {Record<string, [string, string]>}
 */
const ENDINGS = {
  // In order.
  "hang-up": ["The call has ended.", ""],
  "backend-ended": ["The other side has hung up.", ""],
  "time-limit": ["The call has lasted as long as it may.", ""],
  "peer-closed": ["The call has ended.", ""],

  // Signaling.
  "signaling-refused": [
    "{host} does not accept calls. It may be stopped, restarting or full, or not know this page.",
    LATER,
  ],
  "signaling-lost": ["The connection to {host} was lost.", CHECK_NETWORK],
  "no-answer": ["{host} took the call but did not answer it.", LATER],
  "unknown-session": [
    "The call has ended on {host} while the connection to it was lost.",
    AGAIN,
  ],
  replaced: ["The call goes on elsewhere: another page has taken it over.", ""],
  busy: ["{host} has no room for another call now.", LATER],
  unauthorized: ["{host} asks for a token.", "Get one that is new, then connect again."],
  forbidden: ["{host} does not let you call.", "Ask its operator for a token that is for this."],
  "too-many-requests": ["{host} takes no more calls from you now.", "Wait, then connect again."],
  "unknown-route": ["{host} has no route of this name.", "Mend the name, then connect again."],
  "going-away": ["{host} is shutting down.", LATER],
  internal: ["{host} has failed.", AGAIN],

  // This browser.
  "token-failed": ["The token for this call could not be had.", LATER],
  "microphone-lost": ["The microphone was unplugged.", "Plug it in, then connect again."],
  "offer-failed": ["This browser could not prepare a call.", ANOTHER_BROWSER],
  "answer-refused": ["This browser did not understand the answer of {host}.", ANOTHER_BROWSER],
  "no-loopback": [
    "Firefox sends no calls to loopback addresses.",
    "Use another browser, or let the relay listen on a network address of this machine.",
  ],

  // The network path.
  "ice-failed": [
    "UDP seems to be blocked between you and {host}.",
    "A firewall or VPN may be in the way: try another network.",
  ],
  "no-check": [
    "UDP seems to be blocked between you and {host}: nothing of the call arrived there.",
    "A firewall or VPN may be in the way: try another network. If none works, {host} may have been " +
      "given a wrong public address: tell its operator.",
  ],
  "checks-not-authentic": [
    "What arrived at {host} was not of this call: something on the way changes packets.",
    "Try another network.",
  ],
  "checks-refused": ["{host} could not accept this browser's way of connecting.", ANOTHER_BROWSER],
  "ice-lost": ["The network path to {host} was lost.", CHECK_NETWORK],
  "consent-lost": ["{host} has heard nothing from you for too long.", CHECK_NETWORK],
  "connection-lost": ["The encrypted connection to {host} has failed.", AGAIN],

  "setup-timeout": ["The call could not be set up in time.", CHECK_NETWORK],

  // Encryption.
  "handshake-failed": ["No encryption could be agreed with {host}.", ANOTHER_BROWSER],
  "dtls-failed": [
    "The network path works, but no encryption could be agreed with {host}.",
    ANOTHER_BROWSER,
  ],
  "no-dtls": [
    "The network path works, but nothing of the encryption arrived at {host}.",
    "A firewall or VPN may drop it: try another network.",
  ],
  "dtls-incomplete": [
    "The network path works, but the encryption with {host} was not agreed in time.",
    "The network may lose too much: try another one.",
  ],
  "fingerprint-mismatch": [
    "{host} has refused the call: its encryption was not with this browser.",
    "Somebody may be listening in: try another network.",
  ],
  "no-srtp-profile": [
    "This browser and {host} have no encryption of audio in common.",
    "Update the browser.",
  ],

  // Audio and whoever answers.
  "no-audio": ["The call is connected, but no audio goes through to {host} or back.", AGAIN],
  "no-media": [
    "The call was connected, but no audio came from this browser.",
    "See whether the microphone works, then connect again.",
  ],
  "media-refused": ["{host} could not use the audio of this browser.", ANOTHER_BROWSER],
  "backend-refused": ["{host} took the call, but nobody behind it did.", LATER],
  "backend-lost": ["{host} has lost the connection to whoever was answering.", AGAIN],
};

/** Codes whose cause the server tells more exactly. */
const TOLD_BY_SERVER = new Set(["unauthorized", "forbidden", "too-many-requests", "busy"]);

/** Reasons that are nobody's fault if the verdict agrees. */
const ORDERLY = new Set(["hang-up", "backend-ended", "time-limit", "peer-closed"]);
const FAULTLESS = new Set([undefined, "ok", "gave-up"]);

/**
 * Put an end into words.
 *
 * @param {string} reason the server's reason or error code, or ours
 * @param {any} facts the server's `verdict`, its `sentence` and `retryAfterMs`; or an exception
 * @param {string} host the appliance
 * @returns {import("./edge-client.js").Ending}
 */
export function describeEnding(reason, facts, host) {
  const { verdict, sentence: told = "", retryAfterMs = null } = facts ?? {};
  const [sentence, advice] =
    reason === "microphone"
      ? microphoneEnding(facts)
      : ((FAULTLESS.has(verdict) ? undefined : ENDINGS[verdict]) ??
        ENDINGS[reason] ??
        [capitalised(told) || `The call has ended (${reason}).`, TELL_OPERATOR]);
  const cause = TOLD_BY_SERVER.has(reason) ? capitalised(told) : "";
  return {
    reason,
    verdict: verdict ?? (ORDERLY.has(reason) ? "ok" : reason),
    failed: !(ORDERLY.has(reason) && FAULTLESS.has(verdict)),
    sentence: `${sentence} ${cause}`.replaceAll("{host}", host).trim(),
    advice: advice.replaceAll("{host}", host),
    retryAfterMs,
  };
}

/** @param {unknown} error what getUserMedia raised @returns {[string, string]} */
function microphoneEnding(error) {
  if (!window.isSecureContext) return [INSECURE, "Open it there."];
  const name = error instanceof DOMException ? error.name : "";
  return MICROPHONE[name] ?? [`The microphone does not start: ${error}`, AGAIN];
}

/** The server's sentence, with a capital letter and a full stop. @param {string} text */
function capitalised(text) {
  if (!text) return "";
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
