"""A table: what stands in a domain, and what stands in the vm.toml for it."""

import re
import tomllib

import pytest

from qorch.errors import InputError
from qorch.importxml import import_xml, render

DEVICES = {  # words inside <devices>: lines of [vm.a]
    # -- disks
    "<disk><source file='/a.img'/><target dev='vda' bus='virtio'/></disk>": """
        disk = [{ path = "/a.img", format = "raw", bus = "virtio", bootindex = 1 }]""",
    "<disk device='cdrom'><target dev='sdb' bus='sata'/></disk>": """
        disk = [{ device = "cdrom", bus = "sata", address = { bus = "sata0.1" } }]
        controller = [{ model = "ahci", id = "sata0" }]""",
    "<disk device='floppy'><source file='/f'/><target dev='fdb'/></disk>": """
        disk = [{ path = "/f", format = "raw", bus = "floppy", address = { unit = 1 } }]""",
    """<disk device='lun' type='block'><source dev='/dev/sdx'/>
       <target dev='sdc' bus='scsi'/></disk>""": """
        disk = [{ path = "/dev/sdx", device = "lun", bus = "scsi", bootindex = 1,
          address = { bus = "scsi0.0", channel = 0, target = 0, unit = 2 } }]
        controller = [{ model = "lsi", id = "scsi0" }]""",
    """<controller type='scsi' model='virtio-scsi'><driver queues='2' iothread='1'/></controller>
       <disk><source file='/a'/><target dev='sda' bus='scsi'/>
       <address type='drive' controller='0' bus='0' target='3' unit='4'/></disk>""": """
        controller = [{ model = "virtio-scsi", id = "scsi0", queues = 2, iothread = "iothread1" }]
        disk = [{ path = "/a", bus = "scsi",
          address = { bus = "scsi0.0", channel = 0, target = 3, unit = 4 } }]""",
    """<disk type='network'><source protocol='nbd' name='x'><host name='h'/></source>
       <target dev='vda'/></disk>""": """
        disk = [{ url = "nbd://h:10809/x", bus = "virtio" }]""",
    """<disk type='network'><source protocol='nbd' name='x'>
       <host transport='unix' socket='/s'/></source><target dev='vda'/></disk>""": """
        disk = [{ url = "nbd+unix:///x?socket=/s" }]""",
    """<disk type='network'><source protocol='iscsi' name='iqn.2013-07.com.example:t/2'>
       <host name='h' port='3260'/></source><target dev='vda'/></disk>""": """
        disk = [{ url = "iscsi://h:3260/iqn.2013-07.com.example:t/2" }]""",
    """<disk type='network'><source protocol='https' name='a/b.iso'><host name='h'/></source>
       <target dev='vda'/></disk>""": """
        disk = [{ url = "https://h:443/a/b.iso" }]""",
    """<disk><driver type='qcow2'/><source file='/top'/><target dev='vda'/>
       <backingStore type='file'><format type='qcow2'/><source file='/mid'/>
       <backingStore type='block'><format type='raw'/><source dev='/dev/base'/><backingStore/>
       </backingStore></backingStore></disk>""": """
        disk = [{ path = "/top", format = "qcow2", chain = [{ path = "/mid", format = "qcow2" },
          { path = "/dev/base", format = "raw" }] }]""",
    """<disk><driver cache='none' io='io_uring' discard='unmap' detect_zeroes='unmap'
         error_policy='stop' copy_on_read='on' queues='4' queue_size='128' event_idx='off'/>
       <source file='/a'/><target dev='vda'/><serial>S1</serial><shareable/><readonly/>
       <boot order='7'/><blockio logical_block_size='4096'/></disk>""": """
        disk = [{ cache = "none", aio = "io_uring", discard = "unmap", detect_zeroes = "unmap",
          werror = "stop", rerror = "stop", copy_on_read = true, queues = 4, queue_size = 128,
          virtio = { event_idx = false }, serial = "S1", shareable = true, read_only = true,
          bootindex = 7, logical_block_size = "4KiB" }]""",
    """<disk><driver detect_zeroes='unmap' error_policy='enospace'/><source file='/a'/>
       <target dev='vda'/></disk>""": """
        disk = [{ discard = "ignore", detect_zeroes = "on", werror = "enospc" }]""",
    """<disk><source file='/a'/><target dev='vda'/><iotune><total_bytes_sec>10</total_bytes_sec>
       <read_iops_sec_max>20</read_iops_sec_max><size_iops_sec>4096</size_iops_sec>
       <write_bytes_sec_max_length>3</write_bytes_sec_max_length><group_name>g</group_name>
       </iotune></disk>""": """
        disk = [{ throttle = { bps_total = 10, iops_read_max = 20, iops_size = 4096,
          bps_write_max_length = 3, group = "g" } }]""",
    """<disk><source file='/a'><encryption format='luks'><secret type='passphrase' uuid='u'/>
       </encryption></source><target dev='vda'/></disk>""": """
        disk = [{ path = "/a", passphrase_file = "u.passphrase" }]""",
    """<disk><driver type='raw'/><source file='/a'><encryption format='luks'>
       <secret type='passphrase' uuid='u'/></encryption></source><target dev='vda'/></disk>""": """
        disk = [{ path = "/a", format = "luks", passphrase_file = "u.passphrase" }]""",
    "<disk><source file='/a'/><target dev='vda'/><shareable/></disk>": """
        disk = [{ path = "/a", shareable = true, cache = "none" }]""",
    """<disk><driver cache='writeback'/><source file='/a'/><target dev='vda'/><shareable/>
       </disk>""": """
        disk = [{ path = "/a", shareable = true, cache = "writeback" }]""",
    """<disk type='dir' device='floppy'><driver type='fat'/><source dir='/d'/>
       <target dev='fda'/><readonly/></disk>""": """
        disk = [{ url = "vvfat:///d?floppy=on", bus = "floppy", read_only = true }]""",
    """<disk type='nvme'><source type='pci' managed='yes' namespace='2'>
       <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
       <target dev='vda'/></disk>""": """
        disk = [{ url = "nvme://0000:01:00.0/2" }]""",
    """<disk type='network'><source protocol='rbd' name='p/n/i'><host name='m' port='1'/>
       <snapshot name='s'/><config file='/c'/></source><target dev='vda'/></disk>""": """
        disk = [{ url = 'rbd:p/n/i@s:mon_host=m\\:1:conf=/c' }]""",
    """<disk type='network'><source protocol='ssh' name='a.img'><host name='h'/></source>
       <target dev='vda'/></disk>""": """
        disk = [{ url = "ssh://h:22/~/a.img" }]""",
    """<disk type='network'><source protocol='iscsi' name='iqn.a:t/2'><host name='h'/></source>
       <target dev='vda'/></disk>""": """
        disk = [{ url = "iscsi://h:3260/iqn.a:t/2" }]""",
    """<disk type='vhostuser'><driver name='qemu' type='raw' queues='2' packed='on'/>
       <source type='unix' path='/s'><reconnect enabled='yes' timeout='3'/></source>
       <target dev='vda' bus='virtio'/><boot order='2'/></disk>""": """
        disk = [{ vhost_user = { backend = { path = "/s", server = false, reconnect = 3 } },
          bus = "virtio", queues = 2, bootindex = 2, virtio = { packed = true } }]""",
    """<disk><driver queues='2'><iothreads><iothread id='4'><queue id='1'/></iothread>
       <iothread id='7'><queue id='0'/></iothread></iothreads></driver>
       <source file='/a'/><target dev='vda'/></disk>""": """
        disk = [{ queues = 2, iothreads = [{ id = "iothread4", queues = [1] },
          { id = "iothread7", queues = [0] }] }]""",
    """<disk><driver><iothreads><iothread id='1'/><iothread id='2'/></iothreads></driver>
       <source file='/a'/><target dev='vda'/></disk>""": """
        disk = [{ iothreads = [{ id = "iothread1" }, { id = "iothread2" }] }]""",
    # -- controllers
    """<controller type='pci' index='0' model='pci-root'><pcihole64 unit='GiB'>1</pcihole64>
       <target hotplug='off'/></controller>""": """
        features = { globals = { "i440FX-pcihost.pci-hole64-size" = "1048576K",
          "PIIX4_PM.acpi-root-pci-hotplug" = false } }""",
    "<controller type='usb' model='none'/>": "controller = ''",
    "<controller type='usb' model='qemu-xhci' ports='8'/>": """
        controller = [{ model = "qemu-xhci", id = "usb", properties = { p2 = 8, p3 = 8 } }]""",
    """<controller type='usb' model='ich9-ehci1'/>
       <controller type='usb' model='ich9-uhci1'><master startport='0'/></controller>""": """
        controller = [{ model = "ich9-usb-ehci1", id = "usb" },
          { model = "ich9-usb-uhci1", properties = { masterbus = "usb.0", firstport = 0 } }]""",
    "<controller type='virtio-serial' index='1' ports='4'/>": """
        controller = [{ model = "virtio-serial", id = "virtio-serial1",
          properties = { max_ports = 4 } }]""",
    "<controller type='pci' model='pci-bridge'><target chassisNr='7'/></controller>": """
        controller = [{ model = "pci-bridge", id = "pci.1", properties = { chassis_nr = 7 } }]""",
    # -- network cards
    """<interface type='user'><mac address='52:54:00:00:00:01'/>
       <model type='e1000e'/></interface>""": """
        nic = [{ user = {}, mac = "52:54:00:00:00:01", model = "e1000e" }]""",
    "<interface type='user'/>": 'nic = [{ model = "rtl8139" }]',
    """<interface type='user'><backend type='passt'/><source dev='eth7'/>
       <ip family='ipv4' address='172.16.0.9' prefix='24'/>
       <portForward proto='udp' address='127.0.0.1'><range start='5' to='6'/></portForward>
       </interface>""": """
        nic = [{ user = { passt = true, interface = "eth7", net = "172.16.0.0/24",
          dhcp_start = "172.16.0.9", forward = [
          { proto = "udp", host = "127.0.0.1", host_port = 5, port = 6 }] } }]""",
    """<interface type='network'><source network='My Net'/><model type='virtio'/>
       <driver name='qemu' queues='2'><host csum='off'/><guest tso4='off'/></driver>
       <mtu size='9000'/><link state='down'/><rom enabled='no'/></interface>""": """
        nic = [{ network = "my-net", vhost = false, queues = 2, rom = false, mtu = 9000,
          link = "down", offloads = { csum = false, guest_tso4 = false } }]""",
    "<interface type='ethernet'><target dev='tap3'/><model type='virtio'/></interface>": """
        nic = [{ tap = "tap3", vhost = true, rom = true }]""",
    """<interface type='udp'><source address='1.2.3.4' port='5'>
       <local address='1.2.3.5' port='6'/></source></interface>""": """
        nic = [{ socket = { type = "udp", host = "1.2.3.4", port = 5, local_host = "1.2.3.5",
          local_port = 6 } }]""",
    """<interface type='vhostuser'><source type='unix' path='/v' mode='client'/>
       <model type='virtio'/></interface>""": """
        nic = [{ vhost_user = { backend = { path = "/v", server = false } } }]""",
    """<interface type='bridge'><source bridge='br0'/><vlan trunk='yes'><tag id='4'/>
       <tag id='5' nativeMode='untagged'/></vlan><bandwidth><outbound average='125'/></bandwidth>
       <port isolated='yes'/></interface>""": """
        nic = [{ network = "br0", trunk = [4, 5], native_vlan = 5, isolated = true,
          rate_out = { rate = "1Mbit" } }]""",
    """<interface type='hostdev'><source><address type='pci' domain='0' bus='1' slot='2'
       function='3'/></source></interface>""": 'hostdev = [{ host = "0000:01:02.3" }]',
    # -- ports
    """<serial type='tcp'><source mode='bind' host='::' service='23'/>
       <protocol type='telnet'/></serial>""": """
        serial = [{ backend = { type = "tcp", host = "::", port = 23, telnet = true } }]""",
    """<serial type='unix'><source mode='connect' path='/s'/>
       <target type='pci-serial'/></serial>""": """
        serial = [{ model = "pci-serial", backend = { path = "/s", server = false } }]""",
    """<serial type='udp'><source mode='bind' host='a' service='1'/>
       <source mode='connect' host='b' service='2'/></serial>""": """
        serial = [{ backend = { type = "udp", host = "b", port = 2, local_host = "a",
          local_port = 1 } }]""",
    "<serial type='file'><source path='/l' append='on'/><log file='/g'/></serial>": """
        serial = [{ backend = { type = "file", path = "/l", append = true, log = "/g" } }]""",
    "<console type='pty'/>": "serial = [{}]",
    """<serial type='null'/><console type='pty'/>
       <console type='pty'><target type='virtio'/></console>""": """
        serial = [{ backend = { type = "null" } }, { model = "virtconsole" }]""",
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>": """
        guest_agent = true""",
    "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>": """
        channel = [{ name = "com.redhat.spice.0", backend = { type = "spicevmc",
          name = "vdagent" } }]""",
    "<parallel type='file'><source path='/p'/></parallel>": """
        parallel = [{ backend = { type = "file", path = "/p" } }]""",
    # -- screens, sound, input
    """<graphics type='vnc' port='5905' autoport='no'>
       <listen type='address' address='::'/></graphics>""": """
        vnc = { listen = "::", port = 5905 }
        video = [{ model = "cirrus" }]""",
    "<graphics type='vnc' socket='/v' passwd='x' keymap='de'/>": """
        vnc = { socket = "/v", password_file = "vnc.passwd", keymap = "de" }""",
    "<graphics type='vnc'><listen type='none'/></graphics>": 'vnc = { listen = "none" }',
    """<graphics type='spice' port='5901' tlsPort='5902'><channel name='main' mode='secure'/>
       <image compression='auto_glz'/><clipboard copypaste='no'/><gl enable='yes'/>
       </graphics>""": """
        spice = { listen = "127.0.0.1", port = 5901, tls_port = 5902, gl = true,
          tls_channels = ["main"], options = { image-compression = "auto_glz",
          disable-copy-paste = true, seamless-migration = true } }""",
    "<graphics type='egl-headless'><gl rendernode='/dev/dri/card0'/></graphics>": """
        display = { type = "egl-headless", options = { rendernode = "/dev/dri/card0" } }""",
    "<video><model type='qxl' ram='65536' vram='1000' vgamem='8192' heads='2'/></video>": """
        video = [{ model = "qxl", ram = "64MiB", vram = "1MiB", vram64 = "0B", vgamem = "8MiB",
          heads = 2 }]""",
    "<video><model type='none'/></video>": "video = ''",
    """<video><driver name='vhostuser'/><model type='virtio' heads='2'>
       <acceleration accel3d='yes'/></model></video>""": """
        video = [{ model = "virtio", heads = 2, vhost_user = { backend = {
          path = "/run/vhost-user-gpu/video0.sock", server = false } } }]""",
    """<video><model type='cirrus'/></video><video><model type='virtio' primary='yes'>
       <acceleration accel3d='yes'/><resolution x='800' y='600'/></model></video>""": """
        video = [{ model = "virtio", gl = true, xres = 800, yres = 600 }, { model = "cirrus" }]""",
    "<sound model='ich9'><codec type='micro'/><audio id='2'/></sound>": """
        sound = [{ codecs = ["hda-micro"], audio = "audio2" }]""",
    """<audio id='1' type='pulseaudio'><output voices='3'><settings frequency='48000'/>
       </output></audio>""": """
        audio = [{ id = "audio1", driver = "pa", options = { "out.voices" = 3,
          "out.frequency" = 48000 } }]""",
    "<input type='tablet' bus='usb'/><input type='mouse' bus='ps2'/>": """
        input = [{ model = "usb-tablet" }]""",
    "<input type='evdev'><source dev='/e' grab='all' repeat='on'/></input>": """
        input = [{ model = "input-linux", evdev = "/e", options = { grab_all = true,
          repeat = true } }]""",
    "<input type='passthrough'><source evdev='/e'/></input>": """
        input = [{ model = "virtio-input-host", evdev = "/e" }]""",
    # -- the rest
    "<rng><backend model='builtin'/><rate bytes='8' period='2000'/></rng>": """
        rng = [{ backend = "rng-builtin", max_bytes = 8, period = "2s" }]""",
    "<rng><backend model='egd' type='unix'><source mode='connect' path='/r'/></backend></rng>": """
        rng = [{ backend = "rng-egd", egd = { path = "/r", server = false } }]""",
    "<watchdog model='ib700' action='dump'/>": 'watchdog = [{ model = "ib700", action = "pause" }]',
    "<panic model='pvpanic'/><panic><address type='isa' iobase='0x505'/></panic>": """
        panic = [{ model = "pvpanic-pci" }, { address = { iobase = 1285 } }]""",
    "<panic model='hyperv'/>": "cpu.properties = { hv-crash = true }",
    "<memballoon model='none'/>": "memory.balloon = false",
    "<memballoon model='virtio' autodeflate='on'><stats period='9'/></memballoon>": """
        memory.balloon = { deflate_on_oom = true, stats_interval = 9 }""",
    """<tpm model='tpm-crb'><backend type='passthrough'>
       <device path='/dev/tpm0'/></backend></tpm>""": """
        tpm = { model = "tpm-crb", device = "/dev/tpm0" }""",
    "<vsock><cid auto='no' address='5'/></vsock>": "vsock = { cid = 5 }",
    "<iommu model='intel'><driver intremap='on' eim='on' aw_bits='48'/></iommu>": """
        iommu = { intremap = true, eim = true, aw_bits = 48 }""",
    """<filesystem accessmode='mapped' fmode='600'><source dir='/d'/><target dir='t'/>
       <readonly/></filesystem>""": """
        share = [{ type = "9p", path = "/d", tag = "t", security_model = "mapped",
          fmode = "0600", read_only = true }]""",
    """<filesystem><driver type='virtiofs' queue='1024'/><binary path='/v' xattr='on'/>
       <source dir='/d'/><target dir='t'/></filesystem>""": """
        share = [{ path = "/d", tag = "t", queue_size = 1024, binary = "/v", xattr = true }]""",
    """<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000'
       bus='0x06' slot='0x12' function='0x5'/></source><rom bar='off'/></hostdev>""": """
        hostdev = [{ host = "0000:06:12.5", rom_bar = false }]""",
    """<hostdev type='usb'><source startupPolicy='optional'><vendor id='0x1234'/>
       <product id='0xbeef'/></source></hostdev>""": """
        hostdev = [{ type = "usb", vendor = 4660, product = 48879, optional = true }]""",
    """<hostdev type='mdev' model='vfio-pci' display='on'><source>
       <address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>""": """
        hostdev = [{ type = "mdev", host = "c2177883-f1bb-47f0-914d-32a22e3a8804",
          display = true }]""",
    """<hostdev type='scsi'><source><adapter name='scsi_host2'/><address bus='0' target='1'
       unit='3'/></source></hostdev>""": 'hostdev = [{ type = "scsi", host = "2:0:1:3" }]',
    "<redirdev bus='usb' type='spicevmc'><boot order='4'/></redirdev>": """
        usb_redir = [{ backend = { type = "spicevmc", name = "usbredir" }, bootindex = 4 }]""",
    "<smartcard mode='host'/>": 'smartcard = [{ mode = "ccid-card-emulated" }]',
    """<shmem name='s'><model type='ivshmem-doorbell'/><server path='/i'/>
       <msi vectors='4' ioeventfd='on'/></shmem>""": """
        shmem = [{ name = "s", server = { path = "/i", server = false }, vectors = 4,
          ioeventfd = true }]""",
    "<crypto model='virtio' type='qemu'><backend model='builtin' queues='2'/></crypto>": """
        crypto = [{ queues = 2 }]""",
    """<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target>
       <address type='dimm' slot='1' base='0x100000000'/></memory>""": """
        memory.device = [{ size = "256MiB", node = 0, slot = 1, base = 4294967296 }]""",
    """<memory model='virtio-mem'><target><size unit='GiB'>1</size><block unit='MiB'>2</block>
       <requested unit='MiB'>512</requested></target></memory>""": """
        memory.device = [{ model = "virtio-mem", size = "1GiB", block_size = "2MiB",
          requested = "512MiB" }]""",
    # -- addresses
    """<rng><backend model='random'/><address type='pci' domain='0' bus='0x00' slot='0x07'
       function='0x1'/></rng>""": """
        rng = [{ source = "/dev/random", address = { bus = "pci.0", slot = 7, function = 1 } }]""",
    """<rng><backend model='builtin'/><address type='pci' bus='0x02' slot='0x00'/></rng>""": """
        rng = [{ address = { bus = "pci.2", slot = 0 } }]
        controller = [{ model = "pci-bridge", id = "pci.1" },
          { model = "pci-bridge", id = "pci.2" }]""",
    """<rng><backend model='builtin'/><address type='pci' slot='0x05'
       multifunction='off'/></rng>""": """
        rng = [{ address = { slot = 5, multifunction = "" } }]""",
    "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1.2'/></input>": """
        input = [{ address = { bus = "usb.0", port = "1.2" } }]""",
    """<channel type='pty'><target type='virtio' name='n'/><address type='virtio-serial'
       controller='1' bus='0' port='3'/></channel>""": """
        controller = [{ model = "virtio-serial", id = "virtio-serial1" }]
        channel = [{ name = "n", backend = { type = "pty" }, address = {
          bus = "virtio-serial1.0", port = "3" } }]""",
    """<redirdev type='tcp'><source mode='connect' host='h' service='4'/></redirdev>
       <redirfilter><usbdev class='0x08' vendor='0x1234' product='0xbeef' version='2.56'
       allow='yes'/><usbdev allow='no'/></redirfilter>""": """
        usb_redir = [{ filter = "0x08:0x1234:0xBEEF:0x0256:1|-1:-1:-1:-1:0" }]""",
    """<tpm model='tpm-crb'><backend type='external'><source type='unix' mode='connect'
       path='/s'/></backend></tpm>""": """
        tpm = { model = "tpm-crb", socket = "/s" }""",
    """<iommu model='amd'><driver passthrough='on' xtsup='on'/></iommu>""": """
        iommu = { model = "amd-iommu", passthrough = true, xtsup = true }""",
    """<iommu model='intel'><driver dma_translation='off'/></iommu>""": """
        iommu = { dma_translation = false }""",
    "<sound model='usb' multichannel='yes'/><sound model='virtio' streams='3'/>": """
        sound = [{ model = "usb-audio", multi = true }, { model = "virtio-sound", streams = 3 }]""",
    """<channel type='unix'><source mode='bind' path='/s'/>
       <target type='guestfwd' address='10.0.2.1' port='4600'/></channel>""": """
        qemu_args = ["-chardev", "socket,id=guestfwd0,path=/s,server=on,wait=off", "-netdev",
          "user,id=guestfwd0,guestfwd=tcp:10.0.2.1:4600-chardev:guestfwd0"]""",
    """<hostdev type='mdev' model='vfio-pci'><source>
       <address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source></hostdev>""": """
        hostdev = [{ type = "mdev", display = false }]""",
    """<memory model='nvdimm'><source><path>/n</path></source><target><size unit='MiB'>64</size>
       <readonly/></target></memory>""": """
        memory.device = [{ model = "nvdimm", unarmed = true, backend = { prealloc = true } }]""",
    """<memory model='virtio-mem'><target dynamicMemslots='yes'><size unit='MiB'>64</size></target>
       </memory>""": """
        memory.device = [{ model = "virtio-mem", dynamic_memslots = true }]""",
    """<memory model='dimm' access='private' discard='yes'><target><size unit='MiB'>64</size>
       </target></memory>""": """
        memory.device = [{ backend = { type = "file", shared = false, discard = true } }]""",
    """<interface type='user'><model type='virtio'/><teaming type='persistent'/>
       <alias name='ua-a'/></interface><interface type='hostdev'>
       <source><address type='pci' bus='3' slot='7' function='1'/></source>
       <teaming type='transient' persistent='ua-a'/></interface>""": """
        nic = [{ failover = true }]
        hostdev = [{ host = "0000:03:07.1", failover_pair = 0 }]""",
    """<interface type='user'><model type='virtio'/><acpi index='3'/></interface>""": """
        nic = [{ address = { acpi_index = 3 } }]""",
    """<disk><source file='/a'><slices><slice type='storage' offset='512' size='1024'/></slices>
       </source><target dev='vda'/></disk>""": """
        disk = [{ path = "/a", slice = { offset = "512B", size = "1KiB" } }]""",
    """<hostdev mode='subsystem' type='scsi_host' model='virtio'>
       <source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>""": """
        hostdev = [{ type = "vhost-scsi", host = "naa.5123456789abcde0" }]""",
    """<controller type='scsi' model='virtio-scsi'/><hostdev type='scsi'>
       <source protocol='iscsi' name='iqn.a:t/1'><host name='h'/></source></hostdev>""": """
        hostdev = [{ type = "scsi", url = "iscsi://h:3260/iqn.a:t/1" }]""",
    """<pstore backend='acpi-erst'><path>/p</path><size unit='KiB'>16</size></pstore>""": """
        pstore = { path = "/p", size = "16KiB" }""",
    """<memory model='virtio-pmem'><source><path>/n</path></source><target>
       <size unit='MiB'>64</size></target></memory>""": """
        memory.device = [{ model = "virtio-pmem", backend = { path = "/n", prealloc = "" } }]""",
    """<graphics type='spice' port='5903' tlsPort='5904' defaultMode='insecure'>
       <channel name='inputs' mode='secure'/><channel name='main' mode='secure'/></graphics>""": """
        spice = { port = 5903, tls_port = 5904, tls_channels = ["main", "inputs"],
          plaintext_channels = ["default"] }""",
    "<graphics type='dbus' p2p='yes'><gl enable='no'/></graphics>": """
        display = { type = "dbus", options = { p2p = true, gl = false } }""",
}

DOMAINS = {  # words inside <domain>: lines of [vm.a]
    "<memory unit='MB'>1000</memory>": 'memory = "954MiB"',
    "<vcpu>3</vcpu><cputune><vcpupin vcpu='1' cpuset='2-3'/></cputune>": """
        cpu = { count = 3, pin = ["any", "2-3", "any"] }""",
    """<launchSecurity type='sev-snp' authorKey='yes' vcek='no'><cbitpos>51</cbitpos>
       <reducedPhysBits>1</reducedPhysBits><policy>0x30000</policy><hostData>QUJD</hostData>
       </launchSecurity>""": """
        confidential = { type = "sev-snp-guest", properties = { cbitpos = 51,
          reduced-phys-bits = 1, policy = 0x30000, author-key-enabled = true,
          vcek-disabled = true, host-data = "QUJD" } }""",
    """<launchSecurity type='sev' kernelHashes='yes'><cbitpos>47</cbitpos>
       <reducedPhysBits>1</reducedPhysBits><policy>3</policy><dhCert>QQ==</dhCert>
       <session>Qg==</session></launchSecurity>""": """
        confidential = { dh_cert_file = "dh_cert.base64",
          session_file = "session.base64", properties = { cbitpos = 47, reduced-phys-bits = 1,
          policy = 3, kernel-hashes = true } }""",
    """<launchSecurity type='tdx'><policy>0x1</policy><mrOwner>QUI=</mrOwner>
       </launchSecurity>""": """
        confidential = { type = "tdx-guest", properties = { attributes = 1, mrowner = "QUI=" } }""",
    "<memory unit='GiB'>1</memory><maxMemory slots='4' unit='GiB'>8</maxMemory>": """
        memory = { size = "1GiB", max = "8GiB", slots = 4 }
        numa = [{ cpus = "0", memory = "1GiB" }]""",
    """<memory unit='GiB'>1</memory><memoryBacking><hugepages><page size='1' unit='GiB'/>
       </hugepages><locked/></memoryBacking>""": """
        memory = { size = "1GiB", locked = true, backend = { type = "file", hugepages = true,
          path = "/dev/hugepages1G", page_size = "1GiB", prealloc = true } }""",
    """<memoryBacking><source type='memfd'/>
       <access mode='shared'/><nosharepages/></memoryBacking>""": """
        memory.backend = { type = "memfd", shared = true }
        features.mem_merge = false""",
    "<numatune><memory mode='interleave' nodeset='0-1'/></numatune>": """
        memory.backend = { host_nodes = "0-1", policy = "interleave" }""",
    """<vcpu>4</vcpu><cpu><numa><cell id='0' cpus='0-1' memory='1' unit='GiB'><distances>
       <sibling id='1' value='21'/></distances></cell><cell id='1' cpus='2-3' memory='1'
       unit='GiB' memAccess='shared'/></numa></cpu>""": """
        memory = "2GiB"
        numa = [{ cpus = "0-1", memory = "1GiB", distances = [10, 21] }, { cpus = "2-3",
          memory = "1GiB", distances = [21, 10], backend = { type = "file", shared = true } }]""",
    "<vcpu current='2' cpuset='0-3,^2'>4</vcpu>": """
        cpu = { count = 2, max = 4, sockets = 4, pin = ["0-1,3", "0-1,3"],
          emulator_pin = "0-1,3" }""",
    """<vcpu current='2'>3</vcpu><vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/>
       <vcpu id='1' enabled='no' hotpluggable='yes'/>
       <vcpu id='2' enabled='yes' hotpluggable='yes'/></vcpus>""": """
        cpus = 1
        cpu = { max = 3, plugged = [2] }""",
    "<cpu mode='host-passthrough' migratable='off'><cache mode='passthrough'/></cpu>": """
        cpu = { model = "host", properties = { migratable = false, host-cache-info = true,
          l3-cache = false } }""",
    "<cpu mode='host-model'/>": 'cpu.model = "host"',
    """<cpu><model>Haswell</model><feature name='ds_cpl' policy='force'/>
       <feature name='hle' policy='forbid'/><maxphysaddr mode='emulate' bits='42'/></cpu>""": """
        cpu = { model = "Haswell", flags = ["+ds-cpl", "-hle"], properties = {
          phys-bits = 42 } }""",
    """<features><apic eoi='on'/><pmu state='off'/><hyperv><relaxed state='on'/>
       <spinlocks state='on' retries='4096'/><vendor_id state='on' value='me'/>
       <stimer state='on'><direct state='on'/></stimer></hyperv>
       <kvm><hidden state='on'/></kvm></features>""": """
        cpu = { flags = ["+kvm-pv-eoi", "-pmu"], properties = { hv-relaxed = true,
          hv-spinlocks = "0x1000", hv-vendor-id = "me", hv-stimer = true,
          hv-stimer-direct = true, kvm = false } }""",
    """<features><acpi/><smm state='on'><tseg unit='MiB'>48</tseg></smm><vmport state='off'/>
       <ioapic driver='qemu'/><ps2 state='off'/><vmcoreinfo/></features>""": """
        features = { acpi = true, smm = true, tseg = "48MiB", vmport = false,
          kernel_irqchip = "split", i8042 = false, vmcoreinfo = true }""",
    "<clock offset='absolute' start='0'/>": 'clock.base = "1970-01-01T00:00:00"',
    """<clock offset='variable' adjustment='-60' basis='localtime'><timer name='hpet' present='no'/>
       <timer name='rtc' tickpolicy='catchup' track='guest'/>
       <timer name='pit' tickpolicy='discard'/>
       <timer name='tsc' frequency='5'/><timer name='kvmclock' present='no'/></clock>""": """
        clock = { base = "localtime", offset = -60, source = "vm", catchup = true,
          pit_policy = "discard" }
        features.hpet = false
        cpu = { flags = ["-kvmclock"], properties = { tsc-frequency = 5 } }""",
    "<os><kernel>/k</kernel><initrd>/i</initrd><cmdline>a=b c</cmdline></os>": """
        kernel = "/k"
        initrd = "/i"
        append = "a=b c" """,
    "<os><loader>/bios.bin</loader><bios useserial='yes' rebootTimeout='5000'/></os>": """
        firmware.code = "/bios.bin"
        features.options = { graphics = false }
        boot = { reboot_timeout = "5s", auto = false }""",
    """<os><loader readonly='yes' secure='yes' type='pflash'>/c</loader>
       <nvram template='/t'>/v</nvram></os>""": """
        firmware = { type = "uefi", code = "/c", vars = "/v", vars_template = "/t",
          secure_boot = true }""",
    """<os firmware='efi'><firmware><feature enabled='no' name='secure-boot'/></firmware>
       </os>""": """
        firmware = { type = "uefi", secure_boot = false }""",
    "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>": """
        features = { s3 = false, s4 = true }""",
    "<on_reboot>destroy</on_reboot><on_crash>preserve</on_crash>": """
        on_reboot = "shutdown"
        on_panic = "pause" """,
    """<os><smbios mode='sysinfo'/></os><sysinfo type='smbios'><bios><entry name='vendor'>V</entry>
       </bios><oemStrings><entry>s</entry></oemStrings></sysinfo>
       <sysinfo type='fwcfg'><entry name='opt/a'>b</entry></sysinfo>""": """
        smbios = { bios = { vendor = "V" }, oem_strings = ["s"] }
        fw_cfg = [{ name = "opt/a", text = "b" }]""",
    """<iothreads>2</iothreads><iothreadids><iothread id='7'><poll max='9'/></iothread>
       </iothreadids><cputune><iothreadpin iothread='7' cpuset='3'/></cputune>""": """
        iothread = [{ id = "iothread7", pin = "3", poll_max_ns = 9 }, { id = "iothread1" }]""",
    "<genid>c2177883-f1bb-47f0-914d-32a22e3a8804</genid>": """
        genid.guid = "c2177883-f1bb-47f0-914d-32a22e3a8804" """,
    """<os><boot dev='network'/><boot dev='hd'/></os><devices><disk><source file='/a'/>
       <target dev='vdb'/></disk><disk><source file='/b'/><target dev='vda'/></disk>
       <interface type='user'/></devices>""": """
        disk = [{ path = "/b", bootindex = 2 }, { path = "/a" }]
        nic = [{ bootindex = 1 }]""",
    """<vcpu>4</vcpu><cpu><numa><cell id='0' cpus='1' memory='64' unit='MiB'/>
       <cell id='1' cpus='0' memory='64' unit='MiB'/></numa></cpu>""": """
        numa = [{ cpus = "1-3", memory = "64MiB" }, { cpus = "0", memory = "64MiB" }]""",
    """<os><type machine='pc-i440fx-5.0'>hvm</type></os><memoryBacking>
       <allocation mode='immediate'/></memoryBacking><cpu><numa>
       <cell cpus='0' memory='64' unit='MiB'/></numa></cpu>""": """
        memory = { size = "64MiB", prealloc = true }
        numa = [{ memory = "64MiB", backend = "" }]""",
    "<os firmware='bios'/>": """firmware = { code = "/usr/share/seabios/bios-256k.bin" }""",
    "<os><acpi><table type='msdm'>/m</table></acpi></os>": """
        qemu_args = ["-acpitable", "sig=MSDM,file=/m"]""",
    "<defaultiothread thread_pool_min='2' thread_pool_max='9'/>": """
        qemu_args = ["-object", "main-loop,id=main-loop,thread-pool-min=2,thread-pool-max=9"]""",
    """<vcpu>2</vcpu><cpu><numa><cell cpus='0-1' memory='64' unit='MiB'><cache level='1'
       associativity='full' policy='writeback'><size value='10' unit='KiB'/>
       <line value='8' unit='B'/></cache></cell><cell memory='64' unit='MiB'/><interconnects>
       <latency initiator='0' target='0' type='access' value='5'/>
       <bandwidth initiator='0' target='1' cache='1' type='read' value='1024' unit='KiB'/>
       </interconnects></numa></cpu>""": """
        features = { hmat = true }
        numa = [{ initiator = 0 }, { initiator = 0 }]
        qemu_args = [
          "-numa",
          "hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=5",
          "-numa",
          "hmat-lb,initiator=0,target=1,hierarchy=first-level,data-type=read-bandwidth,bandwidth=1024K",
          "-numa",
          "hmat-cache,node-id=0,size=10K,level=1,associativity=complex,policy=write-back,line=8",
        ]""",
    """<os><type machine='pc-i440fx-2.3'>hvm</type></os><numatune>
       <memory mode='strict' nodeset='1'/></numatune><cpu><numa>
       <cell cpus='0' memory='64' unit='MiB'/></numa></cpu>""": """
        numa = [{ memory = "64MiB", backend = { host_nodes = "1", policy = "bind" } }]""",
    """<memoryBacking><hugepages/></memoryBacking><devices><memory model='nvdimm'>
       <source><path>/n</path><pmem/></source><target><size unit='MiB'>64</size></target></memory>
       </devices>""": """
        memory.device = [{ backend = { path = "/n", hugepages = "", prealloc = "" } }]""",
}


UNASKED = {"model": "piix3-usb-uhci", "id": "usb"}  # every PC of libvirt's has one


def import_machine(inside):
    """The vm.toml's table of a KVM domain with these words, and the notes."""
    own = re.search(r"<memory( unit='\w+')?>", inside)
    memory = "" if own else "<memory unit='MiB'>4096</memory>"
    imported = import_xml(f"<domain type='kvm'><name>a</name>{memory}{inside}</domain>")
    machine = tomllib.loads(render(imported))["vm"]["a"]
    if len(machine.get("controller", ())) > 1 and UNASKED in machine["controller"]:
        machine["controller"].remove(UNASKED)
    return machine, imported.notes


def assert_has(found, wanted, path=""):
    """What is wanted is there; more may be, but not in lists. An empty string is: no such key."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            if value == "":
                assert key not in found, f"{path}.{key}"
            else:
                assert key in found, f"{path}.{key}: {found}"
                assert_has(found[key], value, f"{path}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), f"{path}: {found}"
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_has(one, other, f"{path}[{index}]")
    else:
        assert found == wanted, path


def read_lines(lines):
    """The lines of the table; inline tables may go on in the next line here."""
    text = "\n".join(line.strip() for line in lines.strip().splitlines())
    return tomllib.loads(join_inline(text))


def join_inline(text):
    """Inline tables in one line, as TOML 1.0 wants them."""
    depth, joined = 0, ""
    for char in text:
        depth += (char in "[{") - (char in "]}")
        joined += " " if char == "\n" and depth else char
    return joined


@pytest.mark.parametrize(("inside", "lines"), DEVICES.items())
def test_devices(inside, lines):
    """Each device becomes what the table says, and nothing about it is left out."""
    found, notes = import_machine(f"<devices>{inside}</devices>")
    assert_has(found, read_lines(lines))
    assert all(re.search("write the pass|start it", note.message) for note in notes), notes


@pytest.mark.parametrize(("inside", "lines"), DOMAINS.items())
def test_what_is_no_device(inside, lines):
    """The same for memory, CPUs, boards, clocks, firmware and boot."""
    found, notes = import_machine(inside)
    assert_has(found, read_lines(lines))
    assert all(re.search("host-model|write this", note.message) for note in notes), notes


@pytest.mark.parametrize(
    "inside",
    [
        "<devices><interface type='internal'/></devices>",
        "<devices><disk type='vhostvdpa'><source dev='/d'/><target dev='vda'/></disk></devices>",
        "<devices><controller type='xenbus'/></devices>",
        "<devices><video><model type='gop'/></video></devices>",
        "<devices><graphics type='rdp'/></devices>",
        "<devices><hostdev mode='capabilities' type='misc'/></devices>",
        "<devices><pstore backend='acpi-erst'><path>/p</path></pstore></devices>",
        "<devices><interface type='vhostuser'><backend type='passt'/></interface></devices>",
        "<devices><interface type='user'><port isolated='yes'/></interface></devices>",
        "<devices><interface><vlan><tag id='4'/></vlan></interface></devices>",
        "<os><shim>/s</shim></os>",
        "<cpu match='minimum'><model>Nehalem</model></cpu>",
        "<devices><tpm><backend type='external'><source/></backend></tpm></devices>",
        "<cputune><shares>2</shares></cputune>",
        "<launchSecurity type='sev'/>",
        "<launchSecurity type='s390-pv'/>",
        "<features><gic version='3'/></features>",
        "<vcpu>many</vcpu>",
        "<uuid>me</uuid>",
        "<on_crash>restart</on_crash>",
    ],
)
def test_what_has_no_counterpart_is_said_to(inside):
    """What cannot be carried over is named, and the rest is imported."""
    _, notes = import_machine(inside)
    assert notes


@pytest.mark.parametrize(
    ("model", "feature", "flags"),
    [
        ("core2duo", "<feature name='sse4a' policy='optional'/>", ["-sse4a"]),
        ("core2duo", "<feature name='tm' policy='optional'/>", ["+tm"]),
        ("EPYC", "<feature name='sse4a' policy='optional'/>", ["+sse4a"]),
        ("Icelake-Server", "", ["-mpx", "-intel-pt"]),
        ("Icelake-Server", "<feature name='mpx'/>", ["+mpx", "-intel-pt"]),
        (
            "Nehalem",
            "<feature name='pclmuldq'/><feature name='cmt' policy='disable'/>",
            ["+pclmulqdq"],
        ),
    ],
)
def test_flags_are_those_libvirt_takes(model, feature, flags):
    """Optional flags are the maker's, removed ones off, renamed ones under QEMU's name."""
    found, _ = import_machine(f"<cpu><model>{model}</model>{feature}</cpu>")
    assert found["cpu"]["flags"] == flags


def test_a_guest_of_32_bits_has_a_cpu_of_its_own():
    """It is qemu32, as with libvirt, on the same QEMU."""
    found, notes = import_machine("<os><type arch='i686'>hvm</type></os>")
    assert found["cpu"]["model"] == "qemu32"
    assert len(notes) == 1


@pytest.mark.parametrize(
    "memory",
    ["", "<memory unit='parsec'>1</memory>", "<memory>0</memory>", "<memory>much</memory>"],
)
def test_a_machine_without_memory_is_refused(memory):
    """There is no amount of memory that would do for all."""
    with pytest.raises(InputError, match="memory"):
        import_xml(f"<domain type='kvm'><name>a</name>{memory}</domain>")


def test_name_spaces_are_called_by_their_names():
    """What is left out of libvirt's own name spaces is named as it is written."""
    space = "http://libvirt.org/schemas/domain/qemu/1.0"
    _, notes = import_machine(
        f"<qemu:commandline xmlns:qemu='{space}'><qemu:env name='A' value='1'/></qemu:commandline>"
    )
    assert [note.path for note in notes] == ["qemu:commandline/qemu:env"]
