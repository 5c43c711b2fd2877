/*
** Linked into testfixture: databases of SQLite's Tcl suite are volumes, but the suite looks at files. It
** asks whether they are there, deletes and copies them, and pokes at their bytes.
**
** So each volume has an empty file of the same name, a marker, which shows what a directory would:
**
**   marker there, empty   the database is the volume, or empty when there is no volume yet
**   marker gone           the database was deleted: so is the volume, by whoever opens it next
**   marker not empty      somebody wrote a file: it becomes the volume when it is opened, or, when it is no
**                         database and only to be read, stays the file that it is
**   marker moved          the database was moved: SQLite may not write to it any more
**
** What the suite injects into the calls of the unix VFS, errors and full disks, it injects here too.
**
** With PAGESTORE_SUITE_LIKE=file a database is locked as its marker would be by the unix VFS, and then as a volume,
** and its journals are files: readers of a volume never block a commit and its journals are nobody else's, which is
** not what tests of SQLite's locks and journals expect.
**
** Commands give Tcl the bytes of volumes; overrides.tcl builds on them what Tcl has for files. Everything goes
** through the methods of the VFS under test, as SQLite's pager does it.
*/
#include "sqlite3.h"
#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <tcl.h>
#include <unistd.h>

#define PATH_BYTES 1024
#define DEFAULT_PAGE_SIZE 1024
/* How often, and after which pause, a lock is asked for that only a dead process can hold. */
#define DEAD_TRIES 160
#define DEAD_PAUSE_MS 50

typedef unsigned char u8;
typedef struct { u8 *at; sqlite3_int64 size; } bytes;
static sqlite3_vfs *volumes;   /* the VFS under test */
static sqlite3_vfs markers;    /* the same, keeping markers */
static sqlite3_vfs other;      /* the same under another name, for tests of two VFSes over one file */

/* The size of the file, -1 if there is none. */
static sqlite3_int64 marker_size(const char *path){
  struct stat found;
  return stat(path, &found)==0 && S_ISREG(found.st_mode) ? (sqlite3_int64)found.st_size : -1;
}

/* What a header says of its page size; 0 if that is none. */
static int page_size_of(const u8 *header){
  int bytes = header[16]<<8 | header[17];
  if( bytes==1 ) return 65536;
  return bytes>=512 && (bytes&(bytes-1))==0 ? bytes : 0;
}

static sqlite3_file *volume_open(const char *path, int flags, int *rc){
  const char *name = sqlite3_create_filename(path, "", "", 0, 0);
  sqlite3_file *file = calloc(1, volumes->szOsFile + sizeof(char*));
  *rc = SQLITE_NOMEM;
  if( name==0 || file==0 ) return 0;
  *rc = volumes->xOpen(volumes, name, file, flags|SQLITE_OPEN_MAIN_DB, &flags);
  if( *rc ){
    if( file->pMethods ) file->pMethods->xClose(file);
    sqlite3_free_filename(name);
    free(file);
    return 0;
  }
  /* The VFS may keep the name for as long as the file is open. */
  memcpy((char*)file + volumes->szOsFile, &name, sizeof(name));
  return file;
}

static void volume_close(sqlite3_file *file){
  const char *name;
  memcpy(&name, (char*)file + volumes->szOsFile, sizeof(name));
  file->pMethods->xUnlock(file, SQLITE_LOCK_NONE);
  file->pMethods->xClose(file);
  sqlite3_free_filename(name);
  free(file);
}

/* Bytes [offset, offset+*count) of a volume, as far as it goes; *count says how far. */
static int volume_read(const char *path, sqlite3_int64 offset, sqlite3_int64 *count, u8 **to){
  int rc;
  sqlite3_int64 size = 0;
  sqlite3_file *file = volume_open(path, SQLITE_OPEN_READONLY, &rc);
  if( file==0 ) return rc;
  rc = file->pMethods->xLock(file, SQLITE_LOCK_SHARED);
  if( rc==SQLITE_OK ) rc = file->pMethods->xFileSize(file, &size);
  if( *count<0 || offset+*count>size ) *count = offset<size ? size-offset : 0;
  *to = calloc(1, *count+1);
  if( rc==SQLITE_OK && *count>0 ){
    rc = file->pMethods->xRead(file, *to, (int)*count, offset);
    if( rc==SQLITE_IOERR_SHORT_READ ) rc = SQLITE_OK;
  }
  volume_close(file);
  return rc;
}

static int lock_all(sqlite3_file *file){
  int rc = file->pMethods->xLock(file, SQLITE_LOCK_SHARED);
  if( rc==SQLITE_OK ) rc = file->pMethods->xLock(file, SQLITE_LOCK_RESERVED);
  if( rc==SQLITE_OK ) rc = file->pMethods->xLock(file, SQLITE_LOCK_EXCLUSIVE);
  return rc;
}

static int commit(sqlite3_file *file){
  int rc = file->pMethods->xFileControl(file, SQLITE_FCNTL_SYNC, 0);
  if( rc==SQLITE_NOTFOUND ) rc = SQLITE_OK;   /* as the pager takes it */
  if( rc==SQLITE_OK ) rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
  if( rc==SQLITE_OK ) file->pMethods->xFileControl(file, SQLITE_FCNTL_COMMIT_PHASETWO, 0);
  return rc;
}

/* Changes the volume from `old` to `new`, pages of `page_size`, from the page with byte `from` on. */
static int write_pages(sqlite3_file *file, int page_size, const bytes *old, const bytes *new, sqlite3_int64 from){
  int rc = lock_all(file);
  sqlite3_int64 at;
  for(at = from - from%page_size; rc==SQLITE_OK && at<new->size; at += page_size){
    if( at+page_size<=old->size && memcmp(old->at+at, new->at+at, page_size)==0 ) continue;
    rc = file->pMethods->xWrite(file, new->at+at, page_size, at);
  }
  if( rc==SQLITE_OK && new->size<old->size ) rc = file->pMethods->xTruncate(file, new->size);
  if( rc==SQLITE_OK ) rc = commit(file);
  file->pMethods->xUnlock(file, SQLITE_LOCK_NONE);
  return rc;
}

/* As write_pages, whatever the header says of the database's size: a pager's header is right, and so it is
** believed when its page is written. Bytes that somebody pokes at are not. */
static int write_volume(sqlite3_file *file, int page_size, const bytes *old, const bytes *new){
  sqlite3_int64 size = 0;
  int rc = write_pages(file, page_size, old, new, 0);
  if( rc==SQLITE_OK ) rc = file->pMethods->xLock(file, SQLITE_LOCK_SHARED);
  if( rc==SQLITE_OK ) rc = file->pMethods->xFileSize(file, &size);
  file->pMethods->xUnlock(file, SQLITE_LOCK_NONE);
  if( rc==SQLITE_OK && size!=new->size ){
    bytes now = { new->at, size };
    rc = write_pages(file, page_size, &now, new, size<new->size ? size : new->size);
  }
  return rc;
}

/* Makes the volume, which has the bytes `old`, have the bytes `new`, in pages of `page_size`. */
static int write_as(const char *path, const bytes *old, const bytes *new, int page_size){
  int rc;
  bytes whole;
  sqlite3_file *file = volume_open(path, SQLITE_OPEN_READWRITE|SQLITE_OPEN_CREATE, &rc);
  if( file==0 ) return rc;
  whole.size = (new->size+page_size-1)/page_size*page_size;
  whole.at = calloc(1, whole.size+1);
  memcpy(whole.at, new->at, new->size);
  rc = write_volume(file, page_size, old, &whole);
  free(whole.at);
  volume_close(file);
  return rc;
}

static int volume_delete(const char *path){
  int rc = volumes->xDelete(volumes, path, 0);
  return rc==SQLITE_IOERR_DELETE_NOENT ? SQLITE_OK : rc;
}

/* The same, with the page size that the volume has; a header may say anything. */
static int write_any(const char *path, const bytes *old, const bytes *new){
  int says = new->size>=18 ? page_size_of(new->at) : 0;
  int had = old->size>=18 ? page_size_of(old->at) : 0;
  int rc, other;
  rc = write_as(path, old, new, says ? says : had ? had : DEFAULT_PAGE_SIZE);
  if( says && rc==SQLITE_IOERR_WRITE ){
    /* A file may come to have pages of another size. A volume cannot, and becomes another volume. */
    bytes nothing = {0, 0};
    rc = volume_delete(path);
    return rc==SQLITE_OK ? write_as(path, &nothing, new, says) : rc;
  }
  for(other=512; rc==SQLITE_IOERR_WRITE && other<=65536; other *= 2) rc = write_as(path, old, new, other);
  return rc;
}

/* Changes bytes of a volume, and its size unless that is negative. */
static int volume_write(const char *path, sqlite3_int64 offset, const u8 *data, sqlite3_int64 count, sqlite3_int64 size){
  bytes old = {0, -1}, new;
  int rc = volume_read(path, 0, &old.size, &old.at);
  if( (rc&0xff)==SQLITE_CANTOPEN ) old.size = 0;
  else if( rc ) return rc;
  new.size = size>=0 ? size : offset+count>old.size ? offset+count : old.size;
  new.at = calloc(1, new.size+1);
  if( old.size>0 ) memcpy(new.at, old.at, old.size<new.size ? old.size : new.size);
  memcpy(new.at+offset, data, count);
  rc = write_any(path, &old, &new);
  free(new.at);
  free(old.at);
  return rc;
}

static int volume_exists(const char *path){
  int found = 0;
  return volumes->xAccess(volumes, path, SQLITE_ACCESS_EXISTS, &found)==SQLITE_OK && found;
}

/* A volume with these bytes and no others, whatever was there. */
static int volume_replace(const char *path, const u8 *data, sqlite3_int64 count){
  int rc = volume_delete(path);
  return rc==SQLITE_OK && count>0 ? volume_write(path, 0, data, count, count) : rc;
}

/* The file that somebody wrote becomes the volume, and then its marker. */
static int take_file(const char *path, sqlite3_int64 size){
  int rc = SQLITE_IOERR;
  u8 *data = malloc(size);
  int fd = open(path, O_RDWR);
  if( fd>=0 && data && read(fd, data, size)==size ) rc = volume_replace(path, data, size);
  if( rc==SQLITE_OK && ftruncate(fd, 0) ) rc = SQLITE_IOERR;
  if( fd>=0 ) close(fd);
  free(data);
  return rc;
}

static int is_directory(const char *path){
  struct stat found;
  return stat(path, &found)==0 && S_ISDIR(found.st_mode);
}

/* True when there is a file with something else than a database in it. */
static int is_other_file(const char *path){
  static const char magic[] = "SQLite format 3";
  char begin[sizeof(magic)] = {0};
  int fd, other;
  if( marker_size(path)<=0 ) return 0;
  fd = open(path, O_RDONLY);
  other = fd>=0 && (read(fd, begin, sizeof(begin))<(int)sizeof(begin) || memcmp(begin, magic, sizeof(magic)));
  if( fd>=0 ) close(fd);
  return other;
}

/* The marker says whether there is a database, and may have become one. */
static int follow_marker(const char *path, int *flags){
  sqlite3_int64 size = marker_size(path);
  if( is_directory(path) ) return SQLITE_CANTOPEN;
  if( size<0 ) return volume_delete(path);
  /* An empty file is a database that exists. */
  if( *flags&SQLITE_OPEN_READWRITE ) *flags |= SQLITE_OPEN_CREATE;
  return size>0 ? take_file(path, size) : SQLITE_OK;
}

/* ---- files of the VFS -------------------------------------------------------------------------------- */

/* What the suite asks of the unix VFS: how many files are open. */
extern int sqlite3_open_file_count;
/* What it injects there: an error, once or for ever, and a full disk, each after so many calls. */
extern int sqlite3_io_error_pending, sqlite3_io_error_persist, sqlite3_io_error_hit, sqlite3_io_error_hardhit,
  sqlite3_io_error_benign, sqlite3_diskfull_pending, sqlite3_diskfull;

static void hit(void){
  sqlite3_io_error_hit++;
  if( !sqlite3_io_error_benign ) sqlite3_io_error_hardhit++;
}
/* True when this call is to fail. */
static int fails_now(void){
  int fails = (sqlite3_io_error_persist && sqlite3_io_error_hit) || sqlite3_io_error_pending--==1;
  if( fails ) hit();
  return fails;
}
/* True when the disk is full for this call. */
static int is_full_now(void){
  if( sqlite3_diskfull_pending==0 ) return 0;
  if( sqlite3_diskfull_pending>1 ) return sqlite3_diskfull_pending-- < 0;
  hit();
  sqlite3_diskfull = 1;
  sqlite3_io_error_hit = 1;
  return 1;
}

/* A file of the VFS under test, and the marker of a database for its locks, if these are wanted. Both follow it
** in memory. */
typedef struct {
  sqlite3_file base;
  sqlite3_file *inner, *marker;
  const char *path;   /* of a database: its marker */
  dev_t device;       /* and what that was when it was opened */
  ino_t inode;
} marked_file;
#define INNER(file) (((marked_file*)(file))->inner)
#define MARKER(file) (((marked_file*)(file))->marker)
#define METHOD(file, method) (INNER(file)->pMethods->method)

static int like_a_file(void){
  const char *like = getenv("PAGESTORE_SUITE_LIKE");
  return like && strcmp(like, "file")==0;
}

static int is_journal(const char *name){
  return strstr(name, "-journal") || strstr(name, "-mj") || strstr(name, "-wal");
}

static int marked_close(sqlite3_file *f){
  int rc = METHOD(f, xClose)(INNER(f));
  if( MARKER(f) ) MARKER(f)->pMethods->xClose(MARKER(f));   /* which counts */
  else sqlite3_open_file_count--;
  return rc;
}
static int marked_read(sqlite3_file *f, void *b, int n, sqlite3_int64 at){
  return fails_now() ? SQLITE_IOERR_READ : METHOD(f, xRead)(INNER(f), b, n, at);
}
static int marked_write(sqlite3_file *f, const void *b, int n, sqlite3_int64 at){
  if( fails_now() ) return SQLITE_IOERR_WRITE;
  return is_full_now() ? SQLITE_FULL : METHOD(f, xWrite)(INNER(f), b, n, at);
}
static int marked_truncate(sqlite3_file *f, sqlite3_int64 size){
  return fails_now() ? SQLITE_IOERR_TRUNCATE : METHOD(f, xTruncate)(INNER(f), size);
}
static int marked_size(sqlite3_file *f, sqlite3_int64 *size){
  return fails_now() ? SQLITE_IOERR_FSTAT : METHOD(f, xFileSize)(INNER(f), size);
}
static int marked_sync(sqlite3_file *f, int flags){
  if( is_full_now() ) return SQLITE_FULL;
  if( fails_now() ) return SQLITE_IOERR_FSYNC;
  if( MARKER(f) ) MARKER(f)->pMethods->xSync(MARKER(f), flags);   /* which counts */
  return METHOD(f, xSync)(INNER(f), flags);
}
static int marked_sector(sqlite3_file *f){
  return MARKER(f) ? MARKER(f)->pMethods->xSectorSize(MARKER(f)) : METHOD(f, xSectorSize)(INNER(f));
}
static int marked_device(sqlite3_file *f){
  sqlite3_file *asked = MARKER(f) ? MARKER(f) : INNER(f);
  return asked->pMethods->xDeviceCharacteristics(asked);
}

/* True when the marker that was opened is not what has its name. */
static int has_moved(marked_file *file){
  struct stat now;
  return file->path && (stat(file->path, &now) || now.st_dev!=file->device || now.st_ino!=file->inode);
}

static int marked_control(sqlite3_file *f, int op, void *arg){
  if( op==SQLITE_FCNTL_HAS_MOVED ){
    *(int*)arg = has_moved((marked_file*)f);
    return SQLITE_OK;
  }
  if( op==SQLITE_FCNTL_LOCKSTATE && MARKER(f) ) return MARKER(f)->pMethods->xFileControl(MARKER(f), op, arg);
  return METHOD(f, xFileControl)(INNER(f), op, arg);
}
static int marked_lock(sqlite3_file *f, int level){
  int tries, rc = MARKER(f) ? MARKER(f)->pMethods->xLock(MARKER(f), level) : SQLITE_OK;
  if( rc ) return rc;
  rc = METHOD(f, xLock)(INNER(f), level);
  /* Nobody alive holds it, or its marker would be locked: a lease of somebody who died runs out. */
  for(tries=0; rc==SQLITE_BUSY && MARKER(f) && level==SQLITE_LOCK_RESERVED && tries<DEAD_TRIES; tries++){
    sqlite3_sleep(DEAD_PAUSE_MS);
    rc = METHOD(f, xLock)(INNER(f), level);
  }
  if( rc && MARKER(f) && level==SQLITE_LOCK_RESERVED ) MARKER(f)->pMethods->xUnlock(MARKER(f), SQLITE_LOCK_SHARED);
  return rc;
}
static int marked_unlock(sqlite3_file *f, int level){
  int rc = METHOD(f, xUnlock)(INNER(f), level);
  if( MARKER(f) ) MARKER(f)->pMethods->xUnlock(MARKER(f), level);
  return rc;
}
static int marked_reserved(sqlite3_file *f, int *held){
  int rc = *held = 0;
  if( MARKER(f) ) rc = MARKER(f)->pMethods->xCheckReservedLock(MARKER(f), held);
  return rc==SQLITE_OK && *held==0 ? METHOD(f, xCheckReservedLock)(INNER(f), held) : rc;
}

static const sqlite3_io_methods marked_methods = {
  1, marked_close, marked_read, marked_write, marked_truncate, marked_sync, marked_size, marked_lock,
  marked_unlock, marked_reserved, marked_control, marked_sector, marked_device
};

/* Makes sure that a database that is open has a marker, and opens it for its locks if these are wanted. */
static int open_marker(marked_file *file, const char *name, int flags){
  struct stat found;
  sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
  if( marker_size(name)<0 && (flags&SQLITE_OPEN_CREATE) ){
    /* Only when there is none: closing any descriptor of a file drops the process's locks on it. */
    int fd = open(name, O_CREAT|O_RDWR, 0644);
    if( fd>=0 ) close(fd);
  }
  if( stat(name, &found)==0 ){
    file->path = name;
    file->device = found.st_dev;
    file->inode = found.st_ino;
  }
  if( !like_a_file() ) return SQLITE_OK;
  file->marker = (sqlite3_file*)((char*)file->inner + volumes->szOsFile);
  memset(file->marker, 0, unix_vfs->szOsFile);
  return unix_vfs->xOpen(unix_vfs, name, file->marker, flags, 0);
}

static int marked_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out){
  int rc = SQLITE_OK;
  int database = name && (flags&SQLITE_OPEN_MAIN_DB);
  int wanted = flags;
  marked_file *marked = (marked_file*)file;
  (void)vfs;
  file->pMethods = 0;
  if( (like_a_file() && (flags&(SQLITE_OPEN_MAIN_JOURNAL|SQLITE_OPEN_SUPER_JOURNAL)))
      || (database && (flags&SQLITE_OPEN_READONLY) && is_other_file(name)) ){
    sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
    return unix_vfs->xOpen(unix_vfs, name, file, flags, out);
  }
  if( !database && (name==0 || (flags&(SQLITE_OPEN_MAIN_JOURNAL|SQLITE_OPEN_SUPER_JOURNAL))==0) ){
    return volumes->xOpen(volumes, name, file, flags, out);
  }
  if( fails_now() ) return SQLITE_CANTOPEN;
  marked->inner = (sqlite3_file*)&marked[1];
  marked->marker = 0;
  marked->path = 0;
  memset(marked->inner, 0, volumes->szOsFile);
  if( database ) rc = follow_marker(name, &wanted);
  if( rc==SQLITE_OK ) rc = volumes->xOpen(volumes, name, marked->inner, wanted, out);
  if( rc==SQLITE_OK && database ) rc = open_marker(marked, name, flags);
  if( rc ){
    if( marked->inner->pMethods ) METHOD(file, xClose)(marked->inner);
    return rc;
  }
  if( marked->marker==0 ) sqlite3_open_file_count++;
  file->pMethods = &marked_methods;
  return SQLITE_OK;
}

static int marked_delete(sqlite3_vfs *vfs, const char *name, int dir_sync){
  int rc;
  (void)vfs;
  if( like_a_file() && is_journal(name) ){
    sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
    return unix_vfs->xDelete(unix_vfs, name, dir_sync);
  }
  if( fails_now() ) return SQLITE_IOERR_DELETE;
  rc = volumes->xDelete(volumes, name, dir_sync);
  if( marker_size(name)>=0 && unlink(name)==0 && rc==SQLITE_IOERR_DELETE_NOENT ) rc = SQLITE_OK;
  return rc;
}

static int marked_access(sqlite3_vfs *vfs, const char *name, int flags, int *found){
  (void)vfs;
  if( fails_now() ) return SQLITE_IOERR_ACCESS;
  *found = flags==SQLITE_ACCESS_EXISTS && marker_size(name)>=0;
  return *found ? SQLITE_OK : volumes->xAccess(volumes, name, flags, found);
}

/* Called by glue.c with the VFS under test; gives the one to use. */
sqlite3_vfs *pagestore_suite_wrap(sqlite3_vfs *vfs){
  volumes = vfs;
  markers = *vfs;
  markers.pNext = 0;
  markers.zName = "pagestore-markers";
  markers.szOsFile = sizeof(marked_file) + vfs->szOsFile;
  if( like_a_file() ) markers.szOsFile += sqlite3_vfs_find("unix")->szOsFile;
  markers.xOpen = marked_open;
  markers.xDelete = marked_delete;
  markers.xAccess = marked_access;
  markers.xGetLastError = sqlite3_vfs_find("unix")->xGetLastError;
  other = markers;
  other.zName = "pagestore-markers-2";
  sqlite3_vfs_register(&other, 0);
  return &markers;
}

/* ---- commands ------------------------------------------------------------------------------------ */

static int answer(Tcl_Interp *interp, int rc, const char *path){
  if( rc==SQLITE_OK ) return TCL_OK;
  Tcl_SetObjResult(interp, Tcl_ObjPrintf("volume %s: %s (%d)", path, sqlite3_errstr(rc), rc));
  return TCL_ERROR;
}

/* The full name under which SQLite opens a database. */
static const char *full_path(Tcl_Obj *name, char *path){
  if( volumes->xFullPathname(volumes, Tcl_GetString(name), PATH_BYTES, path) ) path[0] = 0;
  return path;
}

/* volume exists NAME | delete NAME | size NAME | read NAME OFFSET COUNT | write NAME OFFSET BYTES ?SIZE?
** | replace NAME BYTES; a COUNT of -1 is all. */
static int volume_command(ClientData unused, Tcl_Interp *interp, int objc, Tcl_Obj *const objv[]){
  static const char *verbs[] = {"exists", "delete", "size", "read", "write", "replace", 0};
  char path[PATH_BYTES];
  int verb, rc = SQLITE_OK, length = 0;
  Tcl_WideInt offset = 0, count = -1;
  u8 *data = 0;
  (void)unused;
  if( objc<3 || Tcl_GetIndexFromObj(interp, objv[1], verbs, "verb", 0, &verb) ) return TCL_ERROR;
  full_path(objv[2], path);
  if( verb==0 ){
    Tcl_SetObjResult(interp, Tcl_NewIntObj(volume_exists(path)));
  }else if( verb==1 ){
    rc = volume_delete(path);
  }else if( verb==2 || verb==3 ){
    if( verb==3 && (objc!=5 || Tcl_GetWideIntFromObj(interp, objv[3], &offset)
        || Tcl_GetWideIntFromObj(interp, objv[4], &count)) ) return TCL_ERROR;
    sqlite3_int64 got = count;
    rc = volume_read(path, offset, &got, &data);
    if( rc==SQLITE_OK ){
      Tcl_SetObjResult(interp, verb==2 ? Tcl_NewWideIntObj(got) : Tcl_NewByteArrayObj(data, (int)got));
    }
    free(data);
  }else if( verb==4 ){
    if( objc<5 || Tcl_GetWideIntFromObj(interp, objv[3], &offset)
        || (objc>5 && Tcl_GetWideIntFromObj(interp, objv[5], &count)) ) return TCL_ERROR;
    data = Tcl_GetByteArrayFromObj(objv[4], &length);
    rc = volume_write(path, offset, data, length, count);
  }else{
    if( objc!=4 ) return TCL_ERROR;
    data = Tcl_GetByteArrayFromObj(objv[3], &length);
    rc = volume_replace(path, data, length);
  }
  return answer(interp, rc, path);
}

const char *sqlite3TestInit(Tcl_Interp*);

/* What testfixture starts with: TCLSH_INIT_PROC. */
const char *pagestore_suite_tcl(Tcl_Interp *interp){
  const char *script = sqlite3TestInit(interp);
  const char *overrides = getenv("PAGESTORE_SUITE_OVERRIDES");
  sqlite3_initialize();
  if( volumes && overrides ){
    Tcl_CreateObjCommand(interp, "volume", volume_command, 0, 0);
    if( Tcl_EvalFile(interp, overrides)!=TCL_OK ){
      Tcl_Panic("%s: %s", overrides, Tcl_GetStringResult(interp));
    }
  }
  return script;
}
