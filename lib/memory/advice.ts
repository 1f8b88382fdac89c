import { provideAdvice } from '../errors.js';

const adviceOnLimits =
  'The request may exceed a limit of the module, which root can raise: /sys/module/udmabuf/parameters';

provideAdvice({
  'DMA_HEAP_IOCTL_ALLOC EINVAL': 'The heap refuses this size or access',
  'DMA_HEAP_IOCTL_ALLOC ENOMEM':
    'The heap has no memory of that size left; a contiguous heap may be fragmented or too small (cma= on the kernel command line)',
  'UDMABUF_CREATE EINVAL': adviceOnLimits,
  'UDMABUF_CREATE_LIST EINVAL': adviceOnLimits,
});
