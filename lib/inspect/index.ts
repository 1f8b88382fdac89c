export { type DmaBufInfo, parseFdInfo, readFdInfo } from './fdinfo.js';
