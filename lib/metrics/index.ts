// TypeScript 6 and later load the types of Node.js only when they are referenced, and the declarations need them.
/// <reference types="node" preserve="true" />

/**
 * Figures about dma-bufs for Prometheus, in a registry of prom-client.
 *
 * @module dmabuf/metrics
 */

export { type DmaBufMetrics, type MetricsOptions, registerMetrics } from './register.js';
