import 'dmabuf';
