{
  description = "microvm.nix runners from Debian's QEMU, cloud kernel and busybox; `wrap` makes a flake of a module file";
  outputs = { self }: {
    lib.runner = import ./runner.nix;
  };
}
