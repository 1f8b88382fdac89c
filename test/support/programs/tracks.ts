// Makes an object as the first thing it does, and says where that was, as far as the package knows.

import { DmaBufChannel, openHandles } from 'dmabuf';
import { report } from '../programs.js';

export interface TrackingReport {
  madeAt?: string;
}

function atTheVeryStart(): DmaBufChannel {
  const [one, other] = DmaBufChannel.pair();
  other.close();
  return one;
}

const channel = atTheVeryStart();
const { madeAt } = openHandles()[0] ?? {};
channel.close();
const observed: TrackingReport = madeAt === undefined ? {} : { madeAt };
report(observed);
