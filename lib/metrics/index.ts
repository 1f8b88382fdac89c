export { type DmaBufMetrics, type MetricsOptions, registerMetrics } from './register.js';
