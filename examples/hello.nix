{
  microvm = {
    hypervisor = "qemu";
    vcpu = 1;
    mem = 128;
  };
  networking.hostName = "hello";
}
