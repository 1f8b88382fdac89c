// SPDX-License-Identifier: MIT OR GPL-2.0
// A dma-buf exporter for tests that fails on request, and fences that fail with any error.
//
// Files in /sys/module/dmabuf_test/parameters, each with 0 for "does not fail", or a positive errno:
//   begin_error, begin_times   DMA_BUF_SYNC_START, so many times (-1: always)
//   end_error                  DMA_BUF_SYNC_END
//   mmap_error                 mmap(2)
//   exporter, driver, timeline the names for everything that is created from then on
//
// ioctl(2) on /dev/dmabuf_test:
//   DMABUF_TEST_BUFFER, size   a new dma-buf's descriptor
//   DMABUF_TEST_LOSE, fd       that dma-buf loses its memory: every access is answered with SIGBUS
//   DMABUF_TEST_FENCE, errno   the descriptor of a sync_file with a new fence that has not signalled
//   DMABUF_TEST_END            signals all such fences, each with its errno

#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sync_file.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#define DMABUF_TEST_BUFFER _IO('t', 1)
#define DMABUF_TEST_LOSE _IO('t', 2)
#define DMABUF_TEST_FENCE _IO('t', 3)
#define DMABUF_TEST_END _IO('t', 4)

static int begin_error, begin_times = -1, end_error, mmap_error;
module_param(begin_error, int, 0600);
module_param(begin_times, int, 0600);
module_param(end_error, int, 0600);
module_param(mmap_error, int, 0600);

static char exporter[64] = "dmabuf_test", driver[32] = "test-driver", timeline[32] = "test-timeline";
module_param_string(exporter, exporter, sizeof(exporter), 0600);
module_param_string(driver, driver, sizeof(driver), 0600);
module_param_string(timeline, timeline, sizeof(timeline), 0600);

// ---------- buffers

struct test_buffer {
  void* memory;
  bool lost;
  char exporter[sizeof(exporter)];
};

static struct sg_table* map_dma(struct dma_buf_attachment* attachment, enum dma_data_direction direction) {
  return ERR_PTR(-EOPNOTSUPP);
}

static void unmap_dma(struct dma_buf_attachment* attachment, struct sg_table* table,
                      enum dma_data_direction direction) {}

static void free_buffer(struct test_buffer* buffer) {
  vfree(buffer->memory);
  kfree(buffer);
}

static void release(struct dma_buf* dmabuf) { free_buffer(dmabuf->priv); }

static int begin_cpu_access(struct dma_buf* dmabuf, enum dma_data_direction direction) {
  if (!begin_error || !begin_times) return 0;
  if (begin_times > 0) begin_times--;
  return -begin_error;
}

static int end_cpu_access(struct dma_buf* dmabuf, enum dma_data_direction direction) { return -end_error; }

static vm_fault_t fault(struct vm_fault* fault) {
  struct dma_buf* dmabuf = fault->vma->vm_private_data;
  struct test_buffer* buffer = dmabuf->priv;
  if (buffer->lost || fault->pgoff >= dmabuf->size >> PAGE_SHIFT) return VM_FAULT_SIGBUS;
  fault->page = vmalloc_to_page(buffer->memory + (fault->pgoff << PAGE_SHIFT));
  get_page(fault->page);
  return 0;
}

static const struct vm_operations_struct mapping_ops = {.fault = fault};

static int map(struct dma_buf* dmabuf, struct vm_area_struct* area) {
  if (mmap_error) return -mmap_error;
  area->vm_private_data = dmabuf;
  area->vm_ops = &mapping_ops;
  return 0;
}

static const struct dma_buf_ops buffer_ops = {
    .map_dma_buf = map_dma,
    .unmap_dma_buf = unmap_dma,
    .release = release,
    .begin_cpu_access = begin_cpu_access,
    .end_cpu_access = end_cpu_access,
    .mmap = map,
};

static long make_buffer(unsigned long size) {
  DEFINE_DMA_BUF_EXPORT_INFO(info);
  struct test_buffer* buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);
  struct dma_buf* dmabuf;
  int fd;

  if (!buffer) return -ENOMEM;
  info.size = PAGE_ALIGN(size);
  buffer->memory = vmalloc_user(info.size);
  strscpy(buffer->exporter, exporter, sizeof(buffer->exporter));
  info.ops = &buffer_ops;
  info.flags = O_RDWR;
  info.priv = buffer;
  info.exp_name = buffer->exporter;
  dmabuf = buffer->memory ? dma_buf_export(&info) : ERR_PTR(-ENOMEM);
  if (IS_ERR(dmabuf)) {
    free_buffer(buffer);
    return PTR_ERR(dmabuf);
  }
  fd = dma_buf_fd(dmabuf, O_CLOEXEC);
  if (fd < 0) dma_buf_put(dmabuf);
  return fd;
}

static long lose_buffer(int fd) {
  struct dma_buf* dmabuf = dma_buf_get(fd);
  struct test_buffer* buffer;

  if (IS_ERR(dmabuf)) return PTR_ERR(dmabuf);
  if (dmabuf->ops != &buffer_ops) {
    dma_buf_put(dmabuf);
    return -EINVAL;
  }
  buffer = dmabuf->priv;
  buffer->lost = true;
  unmap_mapping_range(dmabuf->file->f_mapping, 0, 0, 1);
  dma_buf_put(dmabuf);
  return 0;
}

// ---------- fences

struct test_fence {
  struct dma_fence base;
  spinlock_t lock;
  int error;
  struct list_head link;
};

static LIST_HEAD(active_fences);
static DEFINE_MUTEX(fences_mutex);

static const char* driver_name(struct dma_fence* fence) { return driver; }

static const char* timeline_name(struct dma_fence* fence) { return timeline; }

static const struct dma_fence_ops fence_ops = {
    .get_driver_name = driver_name,
    .get_timeline_name = timeline_name,
};

static long make_fence(int error) {
  struct test_fence* fence = kzalloc(sizeof(*fence), GFP_KERNEL);
  struct sync_file* file;
  int fd;

  if (!fence) return -ENOMEM;
  fd = get_unused_fd_flags(O_CLOEXEC);
  if (fd < 0) {
    kfree(fence);
    return fd;
  }
  spin_lock_init(&fence->lock);
  fence->error = error;
  dma_fence_init(&fence->base, &fence_ops, &fence->lock, dma_fence_context_alloc(1), 1);
  file = sync_file_create(&fence->base);
  if (!file) {
    dma_fence_put(&fence->base);
    put_unused_fd(fd);
    return -ENOMEM;
  }
  mutex_lock(&fences_mutex);
  list_add_tail(&fence->link, &active_fences);
  mutex_unlock(&fences_mutex);
  fd_install(fd, file->file);
  return fd;
}

static void end_fences(void) {
  struct test_fence *fence, *next;

  mutex_lock(&fences_mutex);
  list_for_each_entry_safe(fence, next, &active_fences, link) {
    list_del(&fence->link);
    if (fence->error) dma_fence_set_error(&fence->base, -fence->error);
    dma_fence_signal(&fence->base);
    dma_fence_put(&fence->base);
  }
  mutex_unlock(&fences_mutex);
}

// ---------- the device

static long control(struct file* file, unsigned int command, unsigned long argument) {
  switch (command) {
    case DMABUF_TEST_BUFFER:
      return make_buffer(argument);
    case DMABUF_TEST_LOSE:
      return lose_buffer(argument);
    case DMABUF_TEST_FENCE:
      return make_fence(argument);
    case DMABUF_TEST_END:
      end_fences();
      return 0;
    default:
      return -ENOTTY;
  }
}

static const struct file_operations device_ops = {.owner = THIS_MODULE, .unlocked_ioctl = control};

static struct miscdevice device = {
    .minor = MISC_DYNAMIC_MINOR,
    .name = "dmabuf_test",
    .fops = &device_ops,
};
module_misc_device(device);

MODULE_DESCRIPTION("A dma-buf exporter for tests");
MODULE_LICENSE("Dual MIT/GPL");
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
