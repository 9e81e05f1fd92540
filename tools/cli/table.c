#include "output.h"

#include <stdlib.h>
#include <string.h>

enum { GAP = 2 };

/* Characters, not bytes; good enough for names and sentences. */
static int width_of(const char *text) {
  int width = 0;
  for (; *text != '\0'; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
  return width;
}

static void put_cell(FILE *to, const char *text, int width, bool last) {
  fputs(text, to);
  if (!last) fprintf(to, "%*s", width - width_of(text) + GAP, "");
}

static const json_t *row_at(const json_t *document, const struct cli_block *block, size_t i) {
  return block->rows != NULL ? json_array_get(cli_path(document, block->rows), i) : document;
}

static size_t row_count(const json_t *document, const struct cli_block *block) {
  return block->rows != NULL ? json_array_size(cli_path(document, block->rows)) : 1;
}

/* The texts of a table, row by row, all in one piece of memory: a piece for each would take most of the time. */
struct cells {
  char *text, **at;
  size_t n;
};

static void free_cells(struct cells *cells) {
  free(cells->text);
  free(cells->at);
}

/* @ends: where each cell's text ends in the stream. */
static bool write_cells(struct cells *cells, const json_t *rows, const struct cli_table *table, off_t *ends) {
  size_t size = 0;
  FILE *to = open_memstream(&cells->text, &size);
  if (to == NULL) return false;
  for (size_t i = 0; i < cells->n; i++) {
    const json_t *row = json_array_get(rows, i / table->n_columns);
    cli_template_put(to, row, table->columns[i % table->n_columns].text);
    fputc('\0', to);
    ends[i] = ftello(to);
  }
  bool ok = ferror(to) == 0;
  return fclose(to) == 0 && ok;
}

/* False: out of memory. Free the cells in any case. */
static bool make_cells(struct cells *cells, const json_t *rows, const struct cli_table *table) {
  *cells = (struct cells){.n = json_array_size(rows) * table->n_columns};
  off_t *ends = calloc(cells->n + 1, sizeof *ends);
  cells->at = calloc(cells->n + 1, sizeof *cells->at);
  bool ok = ends != NULL && cells->at != NULL && write_cells(cells, rows, table, ends);
  for (size_t i = 0; ok && i < cells->n; i++) {
    cells->at[i] = cells->text + (i > 0 ? ends[i - 1] : 0);
    cli_template_trim(cells->at[i]);
  }
  free(ends);
  return ok;
}

static const char *cell_text(const char *cell) {
  return *cell != '\0' ? cell : "-";
}

static void put_heading(FILE *to, struct cli_table *table) {
  size_t n = table->n_columns;
  if (table->headed) return;
  for (size_t c = 0; c < n; c++) put_cell(to, table->columns[c].title, table->widths[c], c + 1 == n);
  fputc('\n', to);
  table->headed = true;
}

bool cli_table_add(FILE *to, struct cli_table *table, const json_t *rows) {
  size_t n = table->n_columns;
  struct cells cells;
  bool ok = make_cells(&cells, rows, table);
  for (size_t c = 0; c < n && !table->headed; c++) table->widths[c] = width_of(table->columns[c].title);
  for (size_t i = 0; ok && i < cells.n; i++) {
    int width = width_of(cell_text(cells.at[i]));
    if (width > table->widths[i % n]) table->widths[i % n] = width;
  }
  if (ok) put_heading(to, table);
  for (size_t i = 0; ok && i < cells.n; i++) {
    put_cell(to, cell_text(cells.at[i]), table->widths[i % n], i % n + 1 == n);
    if (i % n + 1 == n) fputc('\n', to);
  }
  free_cells(&cells);
  return ok && ferror(to) == 0;
}

static bool print_table(FILE *to, const json_t *document, const struct cli_block *block) {
  struct cli_table table = {.columns = block->columns, .n_columns = block->n_columns};
  json_t *one = block->rows == NULL ? json_array() : NULL;
  const json_t *rows = block->rows != NULL ? cli_path(document, block->rows) : one;
  bool ok = one == NULL || json_array_append(one, (json_t *)(uintptr_t)document) == 0;
  ok = ok && cli_table_add(to, &table, rows);
  json_decref(one);
  return ok;
}

static void put_indented(FILE *to, const char *text, int indent) {
  for (; *text != '\0'; text++) {
    fputc(*text, to);
    if (*text == '\n') fprintf(to, "%*s", indent, "");
  }
  fputc('\n', to);
}

static bool print_fields(FILE *to, const json_t *document, const struct cli_block *block) {
  int width = 0;
  for (size_t c = 0; c < block->n_columns; c++) {
    int own = width_of(block->columns[c].title);
    if (own > width) width = own;
  }
  for (size_t i = 0; i < row_count(document, block); i++) {
    if (i > 0) fputc('\n', to);
    for (size_t c = 0; c < block->n_columns; c++) {
      char *text = cli_template(row_at(document, block, i), block->columns[c].text);
      if (text == NULL) return false;
      const char *title = block->columns[c].title;
      if (*text != '\0') {
        fprintf(to, "%s%*s", title, width - width_of(title) + GAP, "");
        put_indented(to, text, width + GAP);
      }
      free(text);
    }
  }
  return ferror(to) == 0;
}

bool cli_blocks_print(FILE *to, const json_t *document, const struct cli_block *blocks, size_t n_blocks) {
  for (size_t i = 0; i < n_blocks; i++) {
    bool ok = false;
    if (i > 0 && row_count(document, &blocks[i]) == 0) continue;
    if (i > 0) fputc('\n', to);
    switch (blocks[i].layout) {
    case CLI_TABLE: ok = print_table(to, document, &blocks[i]); break;
    case CLI_FIELDS: ok = print_fields(to, document, &blocks[i]); break;
    }
    if (!ok) return false;
  }
  return true;
}
