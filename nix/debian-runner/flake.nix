{
  description = "microvm.nix runners from Debian's QEMU, cloud kernel and busybox; see wrap";
  outputs = { self }: {
    lib.runner = import ./runner.nix;
  };
}
