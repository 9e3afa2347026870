/** What a peer connection's statistics say about a call. */

/**
 * @typedef {object} Figures
 * @property {number | null} rtt_ms round trip to the server; null until measured
 * @property {number | null} jitter_ms interarrival jitter of the received audio (RFC 3550 §6.4.1)
 * @property {number} received packets received since the start of the call
 * @property {number} lost packets lost on their way to us since the start of the call
 */

/**
 * The figures of now; null while nothing can be received.
 *
 * @param {RTCPeerConnection} connection
 * @returns {Promise<Figures | null>}
 */
export async function measure(connection) {
  const report = await connection.getStats();
  const inbound = find(report, "inbound-rtp");
  const pair = find(report, "candidate-pair", (stat) => stat.nominated);
  const remote = find(report, "remote-inbound-rtp");
  if (!inbound) return null;
  return {
    rtt_ms: milliseconds(remote?.roundTripTime ?? pair?.currentRoundTripTime),
    jitter_ms: milliseconds(inbound.jitter),
    received: inbound.packetsReceived,
    lost: Math.max(0, inbound.packetsLost),
  };
}

/**
 * How many packets the connection's one receiver has had.
 *
 * @param {RTCPeerConnection} connection
 * @returns {Promise<number>}
 */
export async function packetsReceived(connection) {
  const [{ receiver }] = connection.getTransceivers();
  return find(await receiver.getStats(), "inbound-rtp")?.packetsReceived ?? 0;
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
