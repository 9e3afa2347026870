/** Plain sentences for everything that can go wrong. */

/** Names of the exceptions that getUserMedia raises. @type {Record<string, string>} */
const MICROPHONE = {
  NotAllowedError:
    "The microphone is blocked. Allow it for this page in the browser, then connect again.",
  NotFoundError: "No microphone was found. Plug one in, then connect again.",
  NotReadableError:
    "The microphone does not start. Another program may be using it: close that one and try again.",
};

export const MICROPHONE_LOST = "The microphone was unplugged. Plug it in, then connect again.";

/**
 * Codes of EdgeCall, and those of the server whose own sentence does not say what to do.
 *
 * @type {Record<string, string>}
 */
const CALL = {
  "signaling-refused": "{host} does not accept calls. It may be stopped, restarting or full.",
  "signaling-lost": "The connection to {host} was lost. Check the network, then connect again.",
  "no-answer": "{host} took the call but did not answer it. Try again in a moment.",
  "offer-failed": "This browser could not prepare a call.",
  "answer-refused": "This browser did not understand the answer of {host}.",
  "ice-failed":
    "UDP seems to be blocked between you and {host}. " +
    "A firewall or VPN may be in the way: try another network.",
  "no-loopback":
    "Firefox sends no calls to loopback addresses. Use another browser, or let the relay listen " +
    "on a network address of this machine.",
  "ice-lost": "The network path to {host} was lost. Check the network, then connect again.",
  "dtls-failed": "The network path works, but no encryption could be agreed with {host}.",
  "no-audio": "The call is connected, but no audio goes through to {host} or back.",
  "unknown-route": "{host} has no route of this name. Mend the name, then connect again.",
  "backend-refused": "{host} took the call, but nobody behind it did. Try again in a moment.",
  "backend-lost": "{host} has lost the connection to whoever was answering. Connect again.",
  "connection-lost": "The encrypted connection to {host} has failed. Connect again.",
};

/**
 * Why the microphone cannot be had.
 *
 * @param {unknown} error what getUserMedia raised
 */
export function microphoneSentence(error) {
  if (!window.isSecureContext) {
    return "Browsers give the microphone only to pages on localhost or over HTTPS.";
  }
  const name = error instanceof DOMException ? error.name : "";
  return MICROPHONE[name] ?? `The microphone does not start: ${error}`;
}

/**
 * Why a call has ended.
 *
 * @param {string} code an EdgeCall code, or the server's
 * @param {string} message the server's sentence, or details
 */
export function callSentence(code, message) {
  const known = CALL[code]?.replace("{host}", location.host);
  return known ?? (message || `The server has ended the call (${code}).`);
}
