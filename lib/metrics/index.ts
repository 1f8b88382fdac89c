/**
 * Figures about dma-bufs for Prometheus, in a registry of prom-client.
 *
 * @module dmabuf/metrics
 */

export { type DmaBufMetrics, type MetricsOptions, registerMetrics } from './register.js';
